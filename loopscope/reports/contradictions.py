"""Contradictions between what several analyses say of one run."""

from collections.abc import Mapping
from itertools import combinations

from ..common.analysis_result import AnalysisResult
from ..common.fate import WORDS, can_both_hold
from .section import Section, Tile


def contradictions(results: Mapping[str, AnalysisResult]) -> tuple[str, ...]:
    """A sentence for every two results whose verdicts can't both be true of the same states, and
    for every one that contradicts itself.

    >>> contradictions({"cycles": result_of_cycles, "stability": result_of_stability})
    ('cycles says that the states come to rest, but stability that they move on ...',)

    Arguments:
        results: by the name of the analysis; each is asked where its states go
            (`AnalysisResult.fate`).
    """
    own = [
        f"{name} contradicts itself: {result.sentence}"
        for name, result in results.items()
        if result.verdict.name == "contradictory"
    ]
    between = []
    for (one, a), (other, b) in combinations(results.items(), 2):
        if not can_both_hold(a.fate, b.fate):
            between.append(
                f"{one} says that the states {WORDS[a.fate]}, but {other} that they {WORDS[b.fate]}. Both "
                f"can't be true of the same states: {one}: {a.verdict.sentence} {other}: "
                f"{b.verdict.sentence}"
            )
    return (*own, *between)


def section(results: Mapping[str, AnalysisResult]) -> Section | None:
    """The contradictions at the top of the page; None where there are none."""
    found = contradictions(results)
    if not found:
        return None
    return Section(
        "contradictions",
        "Contradictions",
        0,
        text=" ".join(found),
        tiles=[Tile(f"{len(found)}", "contradictions between analyses of this run")],
    )
