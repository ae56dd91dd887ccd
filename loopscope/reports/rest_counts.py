"""How much of a run comes to rest, as each of its analyses counts it, where the counts differ."""

from collections import defaultdict
from collections.abc import Collection, Mapping

from ..common.analysis_result import AnalysisResult
from ..common.text import listed, percent, plural

APART = 0.1
"""Shares at rest differ if they are this far apart, in the examples that all have examined."""
_WHY = (
    "An example's whole state rests only if everything in it does, and where one criterion sees rest, a "
    "stricter one sees motion that is small or still shrinks"
)


def rest_counts_sentence(results: Mapping[str, AnalysisResult]) -> str:
    """What each analysis counts as at rest, if the shares are APART.

    Shares are compared in the examples that all of these analyses examined, as others may be other
    examples. Empty where the shares are alike, or only one analysis counts.

    Arguments:
        results: by the name of the analysis, all of one run.
    """
    counting = _counting(results)
    if not _apart(list(counting.values())):
        return ""
    counts: dict[tuple[int, int, str], list[str]] = defaultdict(list)
    for name, result in counting.items():
        counts[_at_rest(result, set(result.examined))].append(name)
    parts = [
        f"{listed(names)} {count} of {plural(total, unit)} ({percent(_share(count, total))})"
        for (count, total, unit), names in counts.items()
    ]
    return f"How much comes to rest depends on what is counted, and how: {'; '.join(parts)}. {_WHY}."


def rest_range(results: Mapping[str, AnalysisResult]) -> tuple[int, int, int] | None:
    """How many positions come to rest by the strictest and by the most lenient of the analyses that
    tell positions apart, and of how many; None unless these shares are APART.

    Arguments:
        results: by the name of the analysis, all of one run.
    """
    telling = [result for result in _counting(results).values() if result.fates_by_position]
    counts = [_at_rest(result, set(result.examined))[:2] for result in telling]
    if not _apart(telling) or len({total for _, total in counts}) != 1:
        return None
    return min(counts)[0], max(counts)[0], counts[0][1]


def _counting(results: Mapping[str, AnalysisResult]) -> dict[str, AnalysisResult]:
    return {name: result for name, result in results.items() if result.examined}


def _apart(counting: Collection[AnalysisResult]) -> bool:
    """Whether shares at rest differ, in the examples that all have examined."""
    if not counting:
        return False
    common = set.intersection(*(set(result.examined) for result in counting))
    shares = [_share(*_at_rest(result, common)[:2]) for result in counting] if common else []
    return bool(shares) and max(shares) - min(shares) > APART


def _at_rest(result: AnalysisResult, rows: set[int]) -> tuple[int, int, str]:
    """(how many of these examples rest, of how many, of what: positions, if it tells them apart)"""
    by_position = result.fates_by_position
    if by_position:
        fates = [fate for row in rows for fate in by_position.get(row, ()) if fate is not None]
        return fates.count("converges"), len(fates), "position"
    by_example = result.fates
    return sum(by_example.get(row) == "converges" for row in rows), len(rows), "example"


def _share(count: int, total: int) -> float:
    return count / max(1, total)
