"""Contradictions between what several analyses say of one run."""

from collections.abc import Mapping
from itertools import combinations

from ..common.analysis_result import AnalysisResult, Fate
from .section import Section, Tile

_WORDS: dict[Fate, str] = {
    "rests": "come to rest",
    "cycles": "go round a cycle",
    "moves": "move on",
    "grows": "grow",
}
_EXCLUDED = {
    frozenset(pair)
    for pair in (("rests", "cycles"), ("rests", "moves"), ("rests", "grows"), ("cycles", "grows"))
}
"""Fates that states can't have both. What moves on may go round a cycle, or grow."""


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
        f"{name} contradicts itself: {result.verdict.sentence}"
        for name, result in results.items()
        if result.verdict.name == "contradictory"
    ]
    between = []
    for (one, a), (other, b) in combinations(results.items(), 2):
        if a.fate in _WORDS and b.fate in _WORDS and frozenset((a.fate, b.fate)) in _EXCLUDED:
            between.append(
                f"{one} says that the states {_WORDS[a.fate]}, but {other} that they {_WORDS[b.fate]}. Both "
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
