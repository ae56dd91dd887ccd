"""Axes of a wrapped module's state: (batch, position, width) unless the body says otherwise,
neutral names where that can't be known, and the user's own names."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import loopscope as ls
from loopscope.core.indexing import as_vectors

BY_CONVENTION = ("batch", "position", "width")
NEUTRAL = ("batch", "axis_1", "axis_2")


class Loop(nn.Module):
    """Repeats its body, after an embedding of tokens or of vectors."""

    def __init__(self, body: nn.Module, embed: nn.Module | None = None) -> None:
        super().__init__()
        self.core, self.embed = body, embed

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.embed is None else self.embed(x)
        for _ in range(3):
            h = torch.tanh(self.core(h)) if h.ndim < 5 else self.core(h)
        return h


class Turned(nn.Module):
    """A convolution over positions inside a body of (batch, position, width), as in Mamba."""

    def __init__(self, width: int, linear: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, padding=1, groups=width)
        self.out = nn.Linear(width, width) if linear else nn.Identity()

    def forward(self, h: Tensor) -> Tensor:
        return self.out(self.conv(h.transpose(1, 2)).transpose(1, 2))


class Experts(nn.Module):
    """A mixture of experts with weights (expert, width, width)."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.route = nn.Linear(width, experts)
        self.weights = nn.Parameter(torch.randn(experts, width, width) / width)

    def forward(self, h: Tensor) -> Tensor:
        return torch.einsum("bpe,ewv,bpw->bpv", self.route(h).softmax(-1), self.weights, h)


class RawConvolution(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, channels, 3) / 9)

    def forward(self, h: Tensor) -> Tensor:
        return F.conv1d(h, self.weight, padding=1)


class Channels(nn.Module):
    """Tokens (batch, position) as vectors (batch, channel, position)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.table = nn.Embedding(11, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table(tokens).transpose(1, 2)


class Shifting(nn.Module):
    """Reads along the last axis without any weight that has its size."""

    def forward(self, h: Tensor) -> Tensor:
        return h.roll(1, -1) * 0.5


def attention(width: int) -> nn.Module:
    return nn.TransformerEncoderLayer(width, 2, 16, batch_first=True, dropout=0.0)


TOKENS = torch.randint(0, 11, (2, 16), generator=torch.Generator().manual_seed(0))
V = torch.randn(2, 5, 8)
KNOWN = {
    "a linear map": (Loop(nn.Linear(8, 8)), V),
    "a transformer": (Loop(attention(8)), V),
    "a transformer as long as it is wide": (Loop(attention(8)), torch.randn(2, 8, 8)),
    "tokens as many as the width": (Loop(attention(16), nn.Embedding(11, 16)), TOKENS),
    "a convolution inside": (Loop(Turned(8)), V),
    "a convolution inside, and nothing else": (Loop(Turned(8, linear=False)), V),
    "a convolution inside, tokens as many as the width": (Loop(Turned(16), nn.Embedding(11, 16)), TOKENS),
    "experts as many as positions": (Loop(Experts(8, 5)), V),
    "no weights": (Loop(nn.Tanh()), V),
    "a recurrent part": (Loop(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8))), V),
}
UNKNOWN = {
    "a convolution": (Loop(nn.Conv1d(4, 4, 3, padding=1)), torch.randn(2, 4, 16)),
    "as many channels as positions": (Loop(nn.Conv1d(4, 4, 3, padding=1)), torch.randn(2, 4, 4)),
    "a convolution and a norm": (
        Loop(nn.Sequential(nn.Conv1d(4, 4, 3, padding=1), nn.BatchNorm1d(4))),
        torch.randn(2, 4, 16),
    ),
    "a convolution between others": (
        Loop(nn.Sequential(nn.Conv1d(4, 7, 3, padding=1), nn.ReLU(), nn.Conv1d(7, 4, 3, padding=1))),
        torch.randn(2, 4, 16),
    ),
    "a convolution and a map of positions": (
        Loop(nn.Sequential(nn.Conv1d(4, 4, 3, padding=1), nn.Linear(16, 16))),
        torch.randn(2, 4, 16),
    ),
    "a function of torch's": (Loop(RawConvolution(4)), torch.randn(2, 4, 16)),
    "a last axis as long as the input": (Loop(Shifting(), Channels(4)), TOKENS),
}


@pytest.mark.parametrize("name", KNOWN)
def test_positions_keep_their_name(name):
    model, x = KNOWN[name]
    run = ls.record(ls.wrap(model.eval(), body="core"), x)
    assert run.states.axes == ("iteration", *BY_CONVENTION) == run["core_in"].axes


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_may_be_channels_is_not_called_positions(name):
    model, x = UNKNOWN[name]
    run = ls.record(ls.wrap(model.eval(), body="core"), x, sites=["core"])
    for site in ("state", "core_in", "core"):
        assert run[site].axes == ("iteration", *NEUTRAL)
    state = run.states[1]
    assert torch.equal(as_vectors(state, run.states.axes[1:])[:, 0], state.flatten(1))
    with pytest.raises(ls.LoopscopeError, match="no axis 'position'"):
        ls.record(ls.wrap(model, body="core"), x, edits=[ls.ablate("state", iteration=1, position=0)])


@pytest.mark.parametrize("name", [*KNOWN, *UNKNOWN])
def test_given_names_are_the_names(name):
    model, x = (KNOWN | UNKNOWN)[name]
    wrapped = ls.wrap(model.eval(), body="core", axes=("batch", "channel", "position"))
    run = ls.record(wrapped, x, sites=["core"], keep=ls.keep.positions([0, -1]))
    assert run.states.axes == ("iteration", "batch", "channel", "position") == run["core"].axes
    whole = ls.record(wrapped, x).states
    assert torch.equal(run.states.tensor, whole.tensor[..., [0, -1]])
    vectors = as_vectors(whole[1], whole.axes[1:])
    assert torch.equal(vectors, whole[1].transpose(1, 2))
    edited = ls.record(wrapped, x, edits=[ls.ablate("state", iteration=1, position=-1)])
    assert not edited.states[1][..., -1].any() and edited.states[1][..., 0].any()


def test_images_have_neutral_axes_and_vectors_the_width():
    image = ls.record(ls.wrap(Loop(nn.Conv2d(3, 3, 3, padding=1)), body="core"), torch.randn(2, 3, 4, 4))
    assert image.states.axes == ("iteration", "batch", "axis_1", "axis_2", "axis_3")
    vector = ls.record(ls.wrap(Loop(nn.Linear(8, 8)), body="core"), torch.randn(2, 8))
    assert vector.states.axes == ("iteration", "batch", "width")


def test_a_body_that_reads_positions_before_the_batch_is_refused():
    model = Loop(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)).eval()
    with pytest.raises(
        ls.LoopscopeError, match=r"the first axis of the state must be the batch, but a Multihead"
    ):
        ls.record(ls.wrap(model, body="core"), V)
    run = ls.record(ls.wrap(model, body="core", axes=BY_CONVENTION), V)
    assert run.states.axes == ("iteration", *BY_CONVENTION)


@pytest.mark.parametrize(
    ("axes", "text"),
    [
        (("batch", "width"), r"axes must name each axis of the state, whose shape is \(2, 5, 8\)"),
        (("channel", "batch", "position"), "and the first one 'batch'"),
        (("batch", "x", "x"), "axes must be different names"),
        (("batch", "iteration", "x"), "names that mean nothing else, but 'iteration'"),
        (("batch", "call", "x"), "names that mean nothing else, but 'call'"),
        (("batch", "a b", "x"), "names that are single words"),
        (("batch", 3, "x"), "axes must be a sequence of strings"),
        ("batch", "axes must be a sequence of strings"),
        (3, "axes must be a sequence of strings"),
        ((), "axes must name each axis of the state"),
    ],
)
def test_names_that_can_be_no_axes_are_said(axes, text):
    with pytest.raises(ls.LoopscopeError, match=text):
        ls.record(ls.wrap(Loop(nn.Linear(8, 8)), body="core", axes=axes), V)
