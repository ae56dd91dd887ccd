"""How much of a run comes to rest, as each of its analyses counts it, where the counts differ."""

from collections import defaultdict
from collections.abc import Mapping

from ..common.analysis_result import AnalysisResult
from ..common.text import listed, percent, plural

APART = 0.1
"""Shares at rest differ if they are this far apart, in the examples that all have examined."""
_WHY = (
    "An example's whole state rests only if everything in it does, and where one criterion sees rest, a "
    "stricter one sees motion that is small or still shrinks"
)


def rest_counts_sentence(results: Mapping[str, AnalysisResult]) -> str:
    """What each analysis counts as at rest, and by which criterion, if the shares are APART.

    Shares are compared in the examples that all of these analyses examined, as others may be other
    examples. Empty where the shares are alike, or only one analysis counts.

    Arguments:
        results: by the name of the analysis, all of one run.
    """
    counting = {name: result for name, result in results.items() if result.examined}
    if not counting:
        return ""
    common = set.intersection(*(set(result.examined) for result in counting.values()))
    shares = [_share(*_at_rest(result, common)[:2]) for result in counting.values()] if common else []
    if not shares or max(shares) - min(shares) <= APART:
        return ""
    counts: dict[tuple[int, int, str, str], list[str]] = defaultdict(list)
    for name, result in counting.items():
        counts[*_at_rest(result, set(result.examined)), result.fate_criterion].append(name)
    parts = [
        f"{listed(names)} {count} of {plural(total, unit)} ({percent(_share(count, total))}; {criterion})"
        for (count, total, unit, criterion), names in counts.items()
    ]
    return f"How much comes to rest depends on what is counted, and how: {'; '.join(parts)}. {_WHY}."


def _at_rest(result: AnalysisResult, rows: set[int]) -> tuple[int, int, str]:
    """(how many of these examples rest, of how many, of what: positions, if it tells them apart)"""
    if result.fates_by_position:
        fates = [fate for row in rows for fate in result.fates_by_position.get(row, ()) if fate is not None]
        return fates.count("converges"), len(fates), "position"
    return sum(result.fates.get(row) == "converges" for row in rows), len(rows), "example"


def _share(count: int, total: int) -> float:
    return count / max(1, total)
