"""The self-check on modules that other people could have written: most pass every check, and what
doesn't is refused for a reason."""

import re

import pytest

import loopscope as ls
from loopscope.checks import CheckResult, Outcome

from ..toys.checked_modules import CASES, wrapped

# PyTorch's own remark on reentrant checkpoints whose input needs no gradient; here they often
# don't.
pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")

LIMITS = {
    "differentiates its own loop": {
        "edit of a state": (Outcome.refused, "inside gradient checkpointing, which computes it again"),
        "edit in an iteration": (Outcome.refused, "inside gradient checkpointing"),
    },
    "another output every time": {
        "output": (Outcome.not_applicable, "another output each time"),
    },
    "keeps its state elsewhere": {
        "edit of a state": (Outcome.refused, "doesn't use what 'core' returns: it keeps its state elsewhere"),
    },
    "a body without a state": {
        "output": (Outcome.refused, "must receive a floating-point tensor to have a state"),
    },
}
"""Why these can't pass: an edit of a pass that checkpointing computes again isn't made again; what
the module itself answers differently each time can't be compared; an edit must reach what the
module goes on from; and a loop whose state its body doesn't receive has no state to record."""


@pytest.fixture(scope="module")
def results() -> dict[str, CheckResult]:
    return {name: ls.check(wrapped(case), case.example()) for name, case in CASES.items()}


def passes(result: CheckResult) -> bool:
    """Whether no check fails or is refused, and nothing is warned of."""
    refused = any(row.outcome is Outcome.refused for row in result.rows)
    return result.passed and not refused and not result.warnings


def test_at_least_25_modules_pass_every_check_that_applies(results):
    assert [name for name, result in results.items() if not passes(result)] == list(LIMITS)
    assert len(CASES) - len(LIMITS) >= 25


def test_what_does_not_pass_says_why(results):
    for name, limits in LIMITS.items():
        for row, (outcome, reason) in limits.items():
            shown = results[name].row(row)
            assert shown.outcome is outcome and re.search(reason, shown.reason), f"{name}: {shown}"


def test_the_checks_that_every_loop_gives_occasion_for_are_made(results):
    always = ("output", "output, all sites", "states", "edit of a state", "edit in an iteration")
    for name, result in results.items():
        if name not in LIMITS:
            assert all(result.row(row).outcome is Outcome.passed for row in always), name
            assert result.row("nothing left behind").outcome is Outcome.passed, name


def test_a_state_that_is_recorded_in_part_is_said():
    case = CASES["several carried tensors"]._replace(options={})
    result = ls.check(wrapped(case), case.example())
    assert any("carries 2 tensors" in text for text in result.warnings)
    assert "warned: the body ['core'] carries 2 tensors" in str(result)


def test_the_four_functions_are_compared_by_substitution_where_there_are_any(results):
    refused = {
        "two roles": "iteration 3 from state 3 gives another state 4",
        "leaves the loop when settled": "leaves its loop after",
        "rows leave the batch": "rows leave its batch during the loop",
        "two levels": "iteration 2 from state 2 gives another state 3",
    }
    for name, result in results.items():
        row = result.row("four functions")
        if name not in LIMITS:
            assert (row.outcome is Outcome.passed) == (name not in refused), f"{name}: {row}"
            assert refused.get(name, "by substitution, from states") in row.reason
