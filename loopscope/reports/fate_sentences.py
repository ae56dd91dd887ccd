"""On what the analyses of one run disagree, or only seem to, in sentences."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..common.analysis_result import AnalysisResult
from ..common.fate import WORDS, Fate
from ..common.text import listed, plural

_WHY_BOTH_HOLD = (
    "differences are measured between paths that start next to each other, and an end along one path; it may "
    "be a cycle that attracts, a slow approach that the iterations didn't see the end of, or a map that "
    "changes from iteration to iteration"
)

Side = tuple[Fate, tuple[str, ...]]
"""A fate, and the analyses that say it."""


@dataclass(frozen=True)
class Doubt:
    """Examples of which a fate is no better known than of those of which it is denied."""

    rows: list[int]
    analyses: tuple[str, ...]
    """Those that deny it."""
    denied: int
    examined: int
    """By both sides."""


def disagreement(
    sides: Sequence[Side],
    rows: Sequence[int],
    total: int,
) -> str:
    """Who says what of which examples."""
    which = ", ".join(str(row) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
    claims = []
    for fate, names in sides:
        verb = "says" if len(names) == 1 else "say"
        claims.append(f"{listed(names)} {verb} that the states {WORDS[fate]}")
    number = "number" if len(rows) == 1 else "numbers"
    return f"In {len(rows)} of {plural(total, 'example')} ({number} {which}) {', but '.join(claims)}."


def criteria(names: Iterable[str], results: Mapping[str, AnalysisResult]) -> tuple[str, ...]:
    """By which criterion each of some analyses decides, once for all that is said of them."""
    reasons: dict[str, tuple[str, ...]] = {}
    for name in names:
        if criterion := results[name].fate_criterion:
            reasons[criterion] = (*reasons.get(criterion, ()), name)
    if not reasons:
        return ()
    parts = [
        f"{listed(group)} {'decides' if len(group) == 1 else 'decide'} by {why}"
        for why, group in reasons.items()
    ]
    return (f"{_first_up('; '.join(parts))}.",)


def _first_up(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def doubt_sentence(fate: Fate, doubt: Doubt) -> str:
    """Who denies a fate, and of how many examples it is undecided for that."""
    verb = "denies" if len(doubt.analyses) == 1 else "deny"
    return (
        f"In {plural(len(doubt.rows), 'further example')} the states would {WORDS[fate]}. "
        f"{_first_up(listed(doubt.analyses))} {verb} that in {doubt.denied} of the "
        f"{doubt.examined} that were examined by both sides, so these are undecided, too."
    )


def differences_that_die_out(
    results: Mapping[str, AnalysisResult], fates: Mapping[int, Fate]
) -> tuple[str, ...]:
    """A sentence for each result that says that small differences die out along paths that end at
    no fixed point, which reads as if they had to end at one."""
    sentences = []
    for name, result in results.items():
        where = [
            row for row in result.contracting if fates.get(row) not in ("converges", "approaches", "halts")
        ]
        if not where:
            continue
        turning = sum(fates.get(row) == "cycles" for row in where)
        ends = "that cycle attracts" if turning == len(where) else _WHY_BOTH_HOLD
        sentences.append(
            f"In {len(where)} of {plural(len(result.examined), 'example')} small differences die out, as "
            f"{name} says, although the states come to no fixed point. Both hold: {ends}."
        )
    return tuple(sentences)
