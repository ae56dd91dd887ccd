"""The call of wrap that find_loops prints works as it stands: it wraps, is iterated where the
module can be, and passes the self-check."""

import warnings

import pytest
import torch
from torch import nn

import loopscope as ls

from ..toys import foreign_loops as foreign
from ..toys import further_loops as further
from ..toys import strange_loops as strange
from ..toys.checked_modules import image
from ..toys.foreign_loops import WIDTH, Core, batch
from ..toys.looped_gpt2 import LoopedGPT2


def tokens():
    return torch.randint(3, 20, (2, 5), generator=torch.Generator().manual_seed(1))


class Counted(foreign.Loop):
    """Two numbers can be passed; one of them sets how many iterations run."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x, scale_steps: int = 1, rounds: int | None = None):
        h = x * scale_steps
        for _ in range(rounds or 3):
            h = self.core(h)
        return self.head(self.norm(h))


class Coda(nn.Module):
    """A layer and a norm between the loop and the head: no norm stands before the head alone."""

    def __init__(self):
        super().__init__()
        self.core, self.coda = Core(), nn.Linear(WIDTH, WIDTH)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x):
        for _ in range(4):
            x = self.core(x)
        return self.head(self.norm(self.coda(x)))


PAIR = 'state=("branch", "residual")'
CASES = {
    Counted: (batch, 'body="core", head="head", norm="norm", count="rounds"'),
    Coda: (batch, 'body="core", head="head"'),
    LoopedGPT2: (tokens, 'body="block", head="head", norm="norm", count="num_steps"'),
    strange.Pair: (batch, f'body="core", {PAIR}'),
    strange.Convolutional: (image, 'body="recall", axes=("batch", "channel", "row", "column"), head="head"'),
    strange.Cell: (lambda: batch()[:, 0], 'body="cell", state=("hx.0", "hx.1"), head="head"'),
    strange.Segments: (batch, 'body="inner", state=("carry.low", "carry.high"), head="head"'),
    foreign.Nested: (
        batch,
        'body=["low", "high"], inner={"low": "low"}, state={"high": "high", "low": "low"}, head="head"',
    ),
    foreign.Twins: (batch, 'body="layers", head="head"'),
    foreign.Fused: (batch, 'body="layer"'),
    further.NamedOutput: (batch, 'body="core", head="head"'),
    further.DictState: (batch, 'body="body", state=("state.slow", "state.fast"), head="head"'),
    further.Keywords: (batch, 'body="core", head="head"'),
    further.ChannelsLast: (image, 'body="core", axes=("batch", "channel", "row", "column"), head="head"'),
    further.Scales: (batch, 'body="core", state=("scales.0", "scales.1"), head="head"'),
    further.EncoderDecoder: (batch, 'body="encoder", head="head"'),
    further.LastWithGradient: (
        batch,
        'body=["low", "high"], state={"high": "high", "low": "low"}, head="head"',
    ),
}
kinds = pytest.mark.parametrize("kind", CASES)


def suggested(kind):
    """The module, its input, and what the printed line makes of it."""
    model, x = foreign.build_loop(kind), CASES[kind][0]()
    found = ls.find_loops(model, x)
    line = next(one.strip() for one in str(found).splitlines() if one.strip().startswith("ls.wrap("))
    return x, line, eval(line, {"ls": ls, "model": model})


@kinds
def test_the_printed_line_names_what_the_passes_show_and_works(kind, recwarn):
    x, line, model = suggested(kind)
    assert line == f"ls.wrap(model, {CASES[kind][1]})"
    run = ls.record(model, x)
    assert not recwarn.list
    assert run.reader.refusal is None and run.iterations > 1
    if model.names.head is not None:
        assert run.logits[1].shape == run.logits[run.iterations].shape
    if model.names.norm is not None:
        assert torch.equal(ls.lens(run, "logit").logits(run.iterations), run.logits[run.iterations])


@pytest.mark.slow
@kinds
def test_the_printed_line_passes_the_self_check(kind):
    x, _, model = suggested(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = ls.check(model, x)
    assert result.passed and not result.warnings, str(result)
    assert result.row("four functions").difference == 0


def test_a_trial_that_fails_takes_nothing_from_the_others():
    class Unreadable(Counted):
        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs)

    Unreadable.forward.__signature__ = "none"  # which inspect refuses
    assert ls.find_loops(Unreadable(), batch()).loops[0].suggestion == (
        'ls.wrap(model, body="core", head="head", norm="norm")'
    )


def test_nothing_is_left_behind_by_the_trials():
    model, x = foreign.build_loop(Counted), batch()
    kept, random = x.clone(), torch.get_rng_state()
    ls.find_loops(model, x)
    assert torch.equal(x, kept) and torch.equal(torch.get_rng_state(), random)
    assert not any(part._forward_hooks or "forward" in vars(part) for part in model.modules())


def test_a_module_that_cannot_be_recorded_keeps_the_call_with_its_body():
    with torch.device("meta"):
        model, x = foreign.Loop(), torch.empty(2, 3, WIDTH)
    assert ls.find_loops(model, x).loops[0].suggestion == 'ls.wrap(model, body="core")'
