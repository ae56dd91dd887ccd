"""Where examples go: convergence and cycles say of each planted example what is true, and never
contradict each other."""

import itertools
from typing import Any, get_args

import pytest
import torch

import loopscope as ls
from loopscope.common.fate import Fate, can_both_hold, fate_of_positions
from loopscope.maths import Kind
from loopscope.maths.late_motion import LATE_MOTIONS, LateMotion, late_motion

from ..toys.planted_loops import FATE_OF, FATES, MIXTURES, mixture_run, planted_run

COARSE: dict[Fate, Fate] = {"converges": "converges", "approaches": "approaches", "grows": "grows"}
"""What convergence says of the fates; of the others that the states move."""


def both(run: ls.Run) -> tuple[Any, Any]:
    return ls.analyses.measure("convergence", run), ls.analyses.measure("cycles", run)


def assert_fates(run: ls.Run, expected: list[Fate]) -> None:
    convergence, cycles = both(run)
    assert cycles.fates == dict(enumerate(expected))
    for row, fate in convergence.fates.items():
        assert fate == COARSE.get(expected[row], "moves") or (expected[row], fate) == ("drifts", "grows")
        assert can_both_hold(fate, cycles.fates[row])
    assert len(convergence.fates) == len(expected)


@pytest.mark.parametrize("name", MIXTURES)
def test_each_example_of_a_mixture_has_its_own_fate(name):
    assert_fates(mixture_run(name), MIXTURES[name][1])


@pytest.mark.parametrize("name", FATES)
def test_planted_loops_have_their_fate_and_a_verdict(name):
    run = planted_run(name, torch.float64, 0.0)
    assert_fates(run, [FATE_OF[name]] * len(run.mask))
    for result in both(run):
        assert result.verdict.name not in ("unclear", "unresolved", "mixed", "partly")
        assert result.evidence.examples == len(run.mask)
        assert result.evidence.support == {result.verdict.name: 1.0}


@pytest.mark.parametrize("name", MIXTURES)
def test_the_verdict_on_a_mixture_follows_from_its_shares(name):
    convergence, cycles = both(mixture_run(name))
    fates = MIXTURES[name][1]
    if len(set(fates)) == 1:
        assert (convergence.verdict.name, cycles.verdict.name) == ("settled", "fixed_point")
    elif name.startswith("one of 24"):  # of all examples 80 to 99 % may be of the frequent kind
        assert {convergence.verdict.name, cycles.verdict.name} == {"unclear"}
        assert {v.name for v in cycles.evidence.alternatives} >= {"mixed"}
    else:
        assert cycles.verdict.name == "mixed"
        assert convergence.verdict.name == ("partly" if "converges" in fates else "moving")


@pytest.mark.parametrize("fate", get_args(Fate))
def test_one_position_has_the_fate_of_its_example(fate):
    assert fate_of_positions([fate]) == fate


def test_the_positions_of_an_example_make_its_fate():
    assert fate_of_positions(["converges", "cycles", "converges"]) == "cycles"
    assert fate_of_positions(["converges", "cycles", "drifts"]) == "moves"
    assert fate_of_positions(["converges", "cycles", "unclear"]) == "moves"
    assert fate_of_positions(["converges", "unclear"]) == "unclear"
    assert fate_of_positions(["converges", "approaches"]) == "approaches"
    assert fate_of_positions(["approaches", "cycles"]) == "cycles"
    assert fate_of_positions(["converges", "halts"]) == fate_of_positions(["halts"]) == "halts"
    assert fate_of_positions(["halts", "drifts"]) == "moves"
    assert fate_of_positions(["approaches", "unclear"]) == "unclear"


def test_where_each_position_can_hold_so_can_their_examples():
    """Two positions, all pairs of fates that two analyses may say of each."""
    pairs = [pair for pair in itertools.product(get_args(Fate), repeat=2) if can_both_hold(*pair)]
    for (a, b), (c, d) in itertools.product(pairs, repeat=2):
        assert can_both_hold(fate_of_positions([a, c]), fate_of_positions([b, d]))


@pytest.mark.parametrize("motion", LateMotion)
@pytest.mark.parametrize("kind", Kind)
def test_the_kind_of_a_path_never_denies_what_its_steps_say(kind, motion):
    from loopscope.analyses import convergence, cycles

    assert can_both_hold(cycles.fate_of(kind, motion), convergence.FATE_OF[motion])


def rows(*steps: float, start: float = 1.0) -> list[torch.Tensor]:
    """A trajectory on a line, with these steps."""
    path = torch.tensor([0.0, *steps], dtype=torch.float64).cumsum(0) + start
    return [x.reshape(1, 1) for x in path]


CASES = {
    "rests": rows(*(0.5**k for k in range(60))),
    "stops": rows(*(0.5 for _ in range(30)), *(0.0 for _ in range(30))),
    "approaches": rows(*(0.97**k for k in range(60))),
    "slows": rows(*((k + 20) ** -2.0 for k in range(60))),
    "moves": rows(*((-1.0) ** k for k in range(60))),
    "grows": rows(*(1.0 for _ in range(60))),
    "unresolved": rows(1.0, *(1e-5 * (-1.0) ** k for k in range(60))),
}


@pytest.mark.parametrize("motion", LateMotion)
def test_every_late_motion_is_reached(motion):
    result = late_motion(CASES[motion.name], 1e-3, torch.finfo(torch.float64).eps)
    assert LATE_MOTIONS[int(result.code)] is motion


def test_a_row_that_overflows_grows_and_leaves_the_others_alone():
    values = [torch.cat([x, 1e200 * x.abs() ** (k * k)]) for k, x in enumerate(CASES["rests"])]
    values = [torch.where(x.abs() > 1e300, torch.inf, x) for x in values]
    code = late_motion(values, 1e-3, torch.finfo(torch.float64).eps).code
    assert [LATE_MOTIONS[i].name for i in code.tolist()] == ["rests", "grows"]


def test_a_batch_in_which_one_example_overflows_keeps_the_fates_of_the_others():
    start = torch.tensor([[0.5], [0.4], [2.0]], dtype=torch.float64)
    run = ls.iterate(lambda x: x * x, start, 4)
    convergence, cycles = both(run)
    assert convergence.fates == cycles.fates == {0: "converges", 1: "converges", 2: "grows"}
    assert "1 of 3 positions overflow" in convergence.limit_note
