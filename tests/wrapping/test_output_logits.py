"""Whether what a wrapped module returns are logits: if nothing says so, what needs logits is
refused in a sentence, and no number of a hidden state is given for one."""

import pytest
import torch
from torch import nn

import loopscope as ls

from ..toys.foreign_loops import WIDTH, Core, Loop, batch, build_loop


class Hidden(Loop):
    """Returns its last state."""

    def forward(self, x):
        h = x
        for _ in range(self.turns):
            h = self.core(h)
        return h


class Scaled(Hidden):
    def forward(self, x):
        return 2 * super().forward(x)


class Pooled(Hidden):
    """A matrix after the loop reads one position, and the first tensor isn't from it."""

    def __init__(self):
        super().__init__()
        self.pooler = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        h = super().forward(x)
        return h, self.pooler(h[:, 0])


class LogProbabilities(Loop):
    def forward(self, x):
        return super().forward(x).log_softmax(-1)


class LastPosition(Loop):
    def forward(self, x):
        return {"answer": super().forward(x)[:, -1:]}


class Transposed(Loop):
    def forward(self, x):
        return super().forward(x).transpose(1, 2)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.core = nn.Embedding(20, WIDTH), Core()

    def forward(self, tokens):
        h = self.embed(tokens)
        for _ in range(4):
            h = self.core(h)
        return h @ self.embed.weight.T


class Named(Hidden):
    """Its own word for it decides."""

    def forward(self, x):
        return {"logits": super().forward(x)}


def recorded(kind, **options):
    return ls.record(ls.wrap(build_loop(kind), body="core", **options), batch())


@pytest.mark.parametrize("kind", [LogProbabilities, LastPosition, Transposed, Named])
def test_what_a_head_returned_or_the_output_names_is_logits(kind):
    run = recorded(kind)
    with torch.no_grad():
        output = run.reader.model.module(batch())
    expected = next(iter(output.values())) if isinstance(output, dict) else output
    assert torch.equal(run.logits[run.iterations], expected)
    assert run.logits[2].shape == expected.shape


def test_what_has_the_size_of_the_vocabulary_is_logits():
    model, tokens = build_loop(Tied), torch.randint(0, 20, (2, 3))
    run = ls.record(ls.wrap(model, body="core"), tokens)
    assert torch.equal(run.logits[4], model(tokens)) and run.logits[1].shape == (2, 3, 20)


@pytest.mark.parametrize("kind", [Hidden, Scaled, Pooled])
def test_hidden_states_are_none_and_all_that_needs_logits_says_what_to_pass(kind):
    run = recorded(kind)
    text = (
        r"must hold logits, but is a .*\(2, 3, 8\) that no head returned.* ls.wrap\(module, body=..., head="
    )
    for needs in (
        lambda: run.logits[2],
        lambda: run.logits[run.iterations],
        lambda: ls.lens(run, "coda"),
        lambda: ls.effects(run, "zero"),
        lambda: ls.analyses.measure("lens", run),
    ):
        with pytest.raises(ls.LoopscopeError, match=text):
            needs()
    assert ls.analyses.measure("convergence", run).summary()
    longer = ls.resume(ls.wrap(build_loop(kind), body="core"), run, 7)
    if kind is Hidden:
        assert torch.equal(longer.output, longer.states[7])


def test_the_head_that_is_named_gives_them():
    assert torch.equal(recorded(Loop, head="head").logits[2], recorded(Loop).logits[2])
    for kind in (Hidden, Pooled):  # which never call it
        with pytest.raises(ls.LoopscopeError, match="head='head' must return the logits, but"):
            _ = recorded(kind, head="head").logits[2]
