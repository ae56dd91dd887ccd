"""Batches that ended at different iterations, or whose sites don't have a row for each example."""

import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError

from ..wrapping.test_batch_rows import PICKS, Leaving

BATCHES = [torch.arange(n * 6).reshape(n, 6) % 5 for n in (3, 2)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return ls.models.build("universal", vocabulary=5, width=8, heads=2, iterations=3).eval()


def test_examples_that_left_the_loop_are_no_data():
    """Their NaN is counted by no analysis of states, unless nothing of them counts."""
    torch.manual_seed(0)
    last = torch.tensor([12, 14, 11, 14])
    run = ls.record(ls.wrap(Leaving(PICKS["by a mask"]).eval(), body="body"), torch.randn(4, 3), last=last)
    for name in ("convergence", "cycles", "geometry"):
        with pytest.raises(LoopscopeError, match="but 2 of 4 have left it, the first by 'state' at 12"):
            ls.analyses.measure(name, run)
        assert ls.analyses.measure(name, run, mask=(last == 14)[:, None]).verdict is not None


def test_batches_that_ended_at_different_iterations_are_not_gone_on_with(model, tmp_path):
    torch.manual_seed(0)
    adaptive = ls.models.build(
        "universal", vocabulary=5, width=8, heads=2, iterations=6, halting="interpolated", halting_bias=0.0
    ).eval()
    adaptive.act.gate.weight.data.mul_(20)
    singles = [one[None] for one in torch.arange(60).reshape(10, 6) ** 2 % 5]
    lengths = [ls.record(adaptive, one).iterations for one in singles]
    early, late = singles[lengths.index(min(lengths))], singles[lengths.index(max(lengths))]
    run = ls.record_many(adaptive, [early, late], to=tmp_path)
    assert min(lengths) < run.iterations == max(lengths)
    with pytest.raises(
        LoopscopeError, match=f"but 1 of 2 have no state {max(lengths)} to go on from. Record with"
    ):
        ls.resume(adaptive, run, 8)
    assert ls.resume(adaptive, run, 8, start=min(lengths)).states.present.all()


def test_a_folder_of_batches_is_measured_by_its_path(model, tmp_path):
    ls.record_many(model, BATCHES, to=tmp_path, iterations=8)
    by_path = ls.analyses.measure("convergence", tmp_path)
    assert by_path.to_json() == ls.analyses.measure("convergence", ls.load_run(tmp_path)).to_json()
