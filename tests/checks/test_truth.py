"""Each row of the self-check is red where it must be: adapters and models that are wrong in one
way."""

import functools
import re

import pytest
import torch

import loopscope as ls
from loopscope.checks import CheckResult, Outcome

from ..toys import broken_adapters as broken
from ..toys.broken_adapters import small, tokens


def checked(model) -> CheckResult:
    return ls.check(model, tokens())


def failures(result) -> list[str]:
    return [row.name for row in result.rows if row.outcome is Outcome.failed]


def trusted(kind, model=None):
    """An adapter whose four functions loopscope doesn't compare by itself."""
    adapter = kind(small() if model is None else model)
    adapter.check = False
    return adapter


def test_what_is_right_passes_every_check():
    for model in (broken.Right(small()), ls.wrap(small(), body=["block", "norm"])):
        result = checked(model)
        assert failures(result) == [] and result.passed
        applies = [row.name for row in result.rows if row.outcome is Outcome.passed]
        assert {"states", "four functions", "padding", "bfloat16", "float16", "generation"} <= set(applies)
        assert all(row.difference in (None, 0) or row.name == "padding" for row in result.rows)


def test_a_mask_is_seen_behind_the_decorator_of_a_forward():
    model = small()
    own = type(model).forward

    @functools.wraps(own)
    def forward(self, *args, **kwargs):
        return own(self, *args, **kwargs)

    model.__class__ = type("Decorated", (type(model),), {"forward": forward})
    row = checked(ls.wrap(model, body=["block", "norm"])).row("padding")
    assert row.outcome is Outcome.passed, row.reason


def test_a_step_that_is_off_by_a_millionth_is_seen():
    row = checked(broken.Inexact(small())).row("four functions")
    assert row.outcome is Outcome.failed and 1e-7 < row.difference < 1e-5
    assert "must give what Small's own forward gives" in row.reason


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (broken.Inexact, ["output", "output, all sites", "states", "four functions", "edit of a state"]),
        (broken.ShortOfOne, ["output", "output, all sites", "states", "four functions"]),
        (broken.MovedWhenSeen, ["output, all sites"]),
        (broken.CutElsewhere, ["states", "edit of a state"]),
        (broken.EarlyState, ["states", "edit of a state"]),
        (broken.TurnedState, ["states", "edit of a state"]),
        (broken.DeafState, ["edit of a state"]),
        (broken.EarlySite, ["edit in an iteration"]),
        (broken.WideInHalf, ["bfloat16", "float16"]),
        (broken.WithoutMask, ["padding"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_wrong_adapter_is_red_where_it_is_wrong(kind, rows):
    result = checked(trusted(kind))
    assert not result.passed
    assert failures(result)[: len(rows)] == rows
    compared = [result.row(name) for name in rows]
    assert all(row.difference is None or row.difference > 0 for row in compared)


def test_an_edit_that_acts_one_iteration_early_is_said():
    reason = checked(trusted(broken.EarlySite)).row("edit in an iteration").reason
    assert reason == "an edit of 'block.mix' at iteration 2 changed states[2], before it"


def test_states_that_hooks_do_not_see_as_many_of_are_counted():
    reason = checked(trusted(broken.ShortOfOne)).row("states").reason
    assert reason == (
        "the run has 3 iterations, but plain hooks saw 4 calls of LayerNorm where 3 return its states"
    )


@pytest.mark.parametrize("what", broken.LEFT)
def test_whatever_a_recording_leaves_behind_is_seen(what):
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        row = checked(broken.Leaving(small(), what)).row("nothing left behind")
    finally:
        torch.use_deterministic_algorithms(deterministic)
    place = {
        "a hook": "the hooks of norm",
        "an attribute": "the attributes of block",
        "a mode": "the training mode of norm",
        "no gradients": "requires_grad of head.weight",
        "a gradient": "the gradient of head.weight",
        "a new version": "the version counter of head.weight",
        "a weight": "the numbers of head.weight",
        "another parameter": "the parameters of head",
        "a buffer": "the buffer scale",
        "a random number": "torch's random state",
        "a setting of torch": "whether algorithms are deterministic",
    }
    assert row.outcome is Outcome.failed and place[what] in row.reason


@pytest.mark.parametrize(
    ("kind", "row", "reason"),
    [
        (broken.Shy, "output", "recorded .* and not recorded differ by up to 0.001"),
        (broken.MaskIgnored, "padding", "the model's own output does so by .*, without any recording"),
        (broken.ShyInGeneration, "generation", "the tokens recorded and not recorded differ"),
    ],
)
def test_a_model_that_acts_otherwise_when_recorded_or_padded_is_red(kind, row, reason):
    result = checked(ls.wrap(small(kind), body=["block", "norm"]))
    assert row in failures(result)
    assert re.search(reason, result.row(row).reason)


def test_an_adapter_that_loses_the_mask_is_caught_though_it_is_right_without_one():
    result = checked(broken.WithoutMask(small()))
    assert failures(result) == ["padding"]
    assert "with a mask the four functions" in result.row("padding").reason
