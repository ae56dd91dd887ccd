"""Modules whose forward decides by the states how many iterations it runs: what is computed by
substitution is what it does from these states, or is refused."""

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.dynamics.iteration_map import IterationMap

from ..toys.foreign_loops import WIDTH, Loop, batch, build_loop

MOST = 5


class Deciding(Loop):
    """Leaves the loop once the mean size of the state is over a threshold."""

    threshold = 0.5

    def __init__(self):
        super().__init__()
        self.time = nn.Parameter(torch.randn(MOST, WIDTH))

    def over(self, h):
        return h.abs().mean() > self.threshold

    def forward(self, x):
        h = x
        for t in range(MOST):
            h = self.core(h + self.time[t])
            if self.over(h):
                break
        return self.head(h)


class DecidingByNumber(Deciding):
    def over(self, h):
        return h.abs().mean().item() > self.threshold


class DecidingByList(Deciding):
    def over(self, h):
        return max(h.abs().flatten(1).mean(1).tolist()) > self.threshold


class DecidingByComparison(Deciding):
    def over(self, h):
        return not torch.equal(h.abs().mean().clamp(max=self.threshold), h.abs().mean())


KINDS = [Deciding, DecidingByNumber, DecidingByList, DecidingByComparison]


@pytest.fixture(scope="module", params=KINDS)
def loop(request):
    """A module, the size of its states, its wrap, and a run in which it leaves after an
    iteration."""
    model, x = build_loop(request.param), batch()
    with torch.no_grad():
        model.time[1:] *= 0.1
        h, sizes = x, []
        for t in range(MOST):
            h = model.core(h + model.time[t])
            sizes.append(float(h.abs().mean()))
    assert sizes[0] > max(sizes[1:])
    model.threshold = (sizes[0] + max(sizes[1:])) / 2
    wrapped = ls.wrap(model, body="core")
    run = ls.record(wrapped, x)
    assert run.iterations == 1
    assert run.reader.refusal is None
    return model, wrapped, run


def small():
    return 0.1 * batch(3)


def test_an_iteration_that_is_reached_from_a_state_alone_is_that_one(loop):
    model, _, run = loop
    x = small()
    with torch.no_grad():
        for t in range(1, MOST):
            ours = run.reader.model.step(x, run.reader.context, t)
            assert torch.equal(ours, model.core(x + model.time[t]))


def test_an_iteration_that_is_not_reached_from_a_state_is_refused(loop):
    _, wrapped, run = loop
    with pytest.raises(ls.LoopscopeError, match="iteration 5 must be reached .* leaves its loop after 5"):
        _ = run.reader.model.step(small(), run.reader.context, MOST)
    model, _, _ = loop
    before, model.threshold = model.threshold, 2.0
    longest = ls.record(wrapped, batch())
    try:
        assert longest.iterations == MOST
        model.threshold = before
        far = ls.patch("state", iteration=2, value=torch.ones_like(longest.states[2]))
        with pytest.raises(ls.LoopscopeError, match="iteration 2 must be reached .* leaves its loop after 1"):
            ls.resume(wrapped, longest, MOST, start=2, edits=[far])
    finally:
        model.threshold = before


def test_the_read_out_of_a_state_passes_its_edits_wherever_the_loop_is_left(loop):
    model, wrapped, run = loop
    assert torch.equal(run.logits[1], run.output)
    edited = ls.resume(wrapped, run, 1, edits=[ls.ablate("head")])
    assert float(edited.output.abs().max()) == 0
    context = run.reader.context
    with torch.no_grad():
        assert torch.equal(run.reader.model.decode(small(), context), model.head(small()))


def test_the_map_of_other_rows_counts_the_iterations_that_these_run(loop):
    model, _, run = loop
    loop_map = IterationMap(run, rows=[0], double=False)
    with torch.no_grad():
        image = loop_map(small()[:1].reshape(1, -1), 2)
    expected = model.core(small()[:1] + model.time[2])
    assert torch.allclose(image.reshape(expected.shape), expected, atol=1e-6)
