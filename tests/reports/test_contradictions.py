"""Contradictions: verdicts that exclude each other are said, others are not."""

from dataclasses import dataclass
from itertools import product
from typing import get_args

import pytest
import torch

import loopscope as ls
from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.fate import Fate
from loopscope.common.verdict import Verdict
from loopscope.reports.contradictions import contradictions, section

FATES = get_args(Fate)
EXCLUDED = {("converges", "cycles"), ("converges", "moves"), ("converges", "grows"), ("cycles", "grows")}


class Said(Verdict):
    something = "It does something."
    contradictory = "It does and it doesn't."


@dataclass(frozen=True)
class Result(AnalysisResult):
    verdict: Said
    goes: Fate = "unclear"

    @property
    def fate(self) -> Fate:
        return self.goes


@pytest.mark.parametrize(("one", "other"), list(product(FATES, FATES)))
def test_two_fates_contradict_each_other_only_if_both_cannot_be(one, other):
    found = contradictions({"a": Result(Said.something, one), "b": Result(Said.something, other)})
    excluded = (one, other) in EXCLUDED or (other, one) in EXCLUDED
    assert len(found) == excluded
    if excluded:
        assert found[0].startswith("a says that the states ")
        assert section({"a": Result(Said.something, one), "b": Result(Said.something, other)}) is not None


def test_a_result_that_contradicts_itself_is_named():
    assert contradictions({"a": Result(Said.contradictory)}) == (
        "a contradicts itself: It does and it doesn't.",
    )


def test_without_contradiction_there_is_no_section():
    assert section({}) is None
    assert (
        section({"a": Result(Said.something, "converges"), "b": Result(Said.something, "converges")}) is None
    )


ANALYSES = ("cycles", "convergence", "stability", "fixed_points", "path_independence")
LOOPS = {
    "a fixed point beside 100": (lambda x: 100 + 0.5 * (x - 100), "converges"),
    "chaos beside 100": (lambda x: 100 + 4 * (x - 100) * (1 - (x - 100)), "moves"),
    "growth beside 100": (lambda x: 100 + 1.1 * (x - 100), "grows"),
}


@pytest.mark.parametrize("name", LOOPS)
def test_the_analyses_of_a_run_agree_on_where_its_states_go(name):
    map, fate = LOOPS[name]
    run = ls.iterate(map, 100 + torch.tensor([[0.3], [0.6]], dtype=torch.float64), 48)
    options = {"stability": {"iterations": 200}}
    results = {a: ls.analyses.measure(a, run, **options.get(a, {})) for a in ANALYSES}
    assert contradictions(results) == ()
    assert {results[a].fate for a in ANALYSES[:4]} == {fate}


def test_a_page_shows_a_contradiction_at_its_top():
    run = ls.iterate(LOOPS["chaos beside 100"][0], torch.tensor([[100.3]], dtype=torch.float64), 48)
    results = {
        "cycles": ls.analyses.measure("cycles", run, noise=0.99),  # so much counts as noise
        "convergence": ls.analyses.measure("convergence", run),
    }
    shown = section(results)
    assert shown is not None
    assert shown.place == 0
    assert "cycles says that the states come to rest, but convergence that they move on" in shown.text
