"""Where the loop goes, in the words of all analyses of one run: the fate of each example, and on
what the analyses disagree."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..common.analysis_result import AnalysisResult
from ..common.evidence import interval_text, share_interval
from ..common.fate import WORDS, Fate, can_both_hold
from ..common.text import percent, plural
from .fate_sentences import Doubt, Side, criteria, differences_that_die_out, disagreement, doubt_sentence
from .rest_counts import rest_counts_sentence, rest_range

_SPECIFIC: tuple[Fate, ...] = (
    "halts",
    "converges",
    "approaches",
    "cycles",
    "quasiperiodic",
    "irregular",
    "drifts",
    "grows",
    "moves",
)
"""Of fates that can all hold, the first of these says the most: a drift also makes a norm grow."""


@dataclass(frozen=True)
class Fates:
    """Where the states of a run's examples go."""

    by_example: Mapping[int, Fate]
    """By index of the example in the run. `unclear` where no analysis knows, or two disagree."""
    by_position: Mapping[int, Sequence[Fate]]
    """By index of the example, the fates of its positions that count, as those analyses say that
    tell positions apart; empty for an example of which none does."""
    disagreements: tuple[str, ...]
    """On what the analyses disagree, a sentence each."""
    reconciled: tuple[str, ...] = ()
    """On what they only seem to disagree, and why both hold; a sentence each."""
    notes: tuple[str, ...] = ()
    """Where numbers on one thing differ with how they are measured: how much comes to rest, and how
    fast; and by which criterion those analyses decide that differ. A sentence each."""
    iterations: int | None = None
    """The k to which the states were followed at least; None where no analysis says."""
    rest_range: tuple[int, int, int] | None = None
    """How many positions come to rest by the strictest and by the most lenient of the analyses that
    count them, and of how many; None unless these shares differ (`rest_counts.APART`)."""
    kept: int = 0
    """How many positions stop at once, from a full step to none, as what is kept where it halts
    does."""
    beyond: str = ""
    """How states were followed to where the model by itself doesn't go, such as "with its one
    iteration applied again"; empty if it does."""

    @property
    def beyond_clause(self) -> str:
        """The same as the end of a sentence or caption."""
        return f", {self.beyond}" if self.beyond else ""

    @property
    def kept_clause(self) -> str:
        """How many positions stop at once, as the end of a sentence or caption; empty where that is
        said of the examples."""
        if not self.kept or set(self.by_example.values()) == {"halts"}:
            return ""
        halted = any("halts" in fates for fates in self.by_position.values())
        why = "are kept where they halted" if halted else "stop at once, as where a halted state is kept"
        return f"; {self.kept} positions {why}"

    @property
    def clauses(self) -> str:
        """Both, as the end of a caption."""
        return f"{self.kept_clause}{self.beyond_clause}"

    @property
    def counts(self) -> list[tuple[Fate, int]]:
        """How many examples have each fate, the most common first, `unclear` last."""
        counts = Counter(self.by_example.values()).most_common()
        return sorted(counts, key=lambda one: one[0] == "unclear")

    @property
    def position_counts(self) -> tuple[int, int] | None:
        """How many positions converge, and of how many; None where that says no more than the
        examples do: no example has positions that converge beside others."""
        split = any(
            "converges" in fates and self.by_example[row] != "converges"
            for row, fates in self.by_position.items()
        )
        if not split:
            return None
        fates = [fate for row in self.by_position.values() for fate in row]
        return fates.count("converges"), len(fates)

    @property
    def whole_at_rest(self) -> int:
        """In how many examples all positions converge, whatever is said of the whole state."""
        return sum(bool(fates) and set(fates) == {"converges"} for fates in self.by_position.values())

    @property
    def _undisputed(self) -> str:
        converging = sum(fate == "converges" for fate in self.by_example.values())
        denied = converging < self.whole_at_rest
        return ", unless an analysis of its whole state says otherwise" if denied else ""

    @property
    def sentence(self) -> str:
        """Such as "The states converge to a fixed point in 64 of 64 examples (94 to 100 %)."

        Where an example has positions that converge beside others, they are counted first, as its
        own fate isn't theirs.
        """
        total = len(self.by_example)
        parts = []
        for fate, count in self.counts:
            of = f"{count} of {plural(total, 'example')}" if not parts else f"{count}"
            verb = f"the states {WORDS[fate]}" if not parts else f"they {WORDS[fate]}"
            parts.append(f"{verb} in {of} ({interval_text(count, total)})")
        if not parts:
            return ""
        text = "; ".join(parts)
        text += "" if self.iterations is None else f", followed to k = {self.iterations}"
        text += f" {self.beyond}" if self.beyond and self.iterations is not None else self.beyond_clause
        if self.position_counts is None:
            return f"{text[0].upper()}{text[1:]}."
        at_rest, positions = self.position_counts
        share = f"{at_rest} of {positions} positions ({percent(at_rest / positions)})"
        if self.rest_range is not None:
            low, high, positions = self.rest_range
            shares = f"{percent(low / positions).removesuffix(' %')} to {percent(high / positions)}"
            share = f"{low} to {high} of {positions} positions, by criterion ({shares}; see below)"
        return (
            f"The states converge at {share}{self.kept_clause}. An "
            f"example converges if all of its positions do{self._undisputed}. By example, {text}."
        )


def reconcile(results: Mapping[str, AnalysisResult], beyond: str = "") -> Fates:
    """The fates of a run's examples, from everything that its analyses say of them.

    Where two analyses say of an example what can't both be true, its fate is unclear, and a
    sentence says who says what, of how many examples, and by which criterion.

    >>> reconcile({"convergence": convergence, "cycles": cycles}).sentence
    'The states converge to a fixed point in 64 of 64 examples (94 to 100 %).'

    Arguments:
        results: by the name of the analysis, all of one run (`AnalysisResult.fates`).
        beyond: as in `Fates`.
    """
    claims: dict[int, dict[str, Fate]] = defaultdict(dict)
    for name, result in results.items():
        for row, fate in result.fates.items():
            claims[row][name] = fate
    fates: dict[int, Fate] = {}
    disputed: dict[tuple[Side, ...], list[int]] = defaultdict(list)
    for row in sorted(claims):
        by_fate: dict[Fate, tuple[str, ...]] = {}
        for name, fate in claims[row].items():
            by_fate[fate] = (*by_fate.get(fate, ()), name)
        sides: tuple[Side, ...] = tuple(
            (a, by_fate[a]) for a in by_fate if any(not can_both_hold(a, b) for b in by_fate)
        )
        if sides:
            disputed[sides].append(row)
        fates[row] = "unclear" if sides else _most_specific(by_fate)
    doubted = _like_the_denied(claims, fates)
    for doubt in doubted.values():
        fates.update(dict.fromkeys(doubt.rows, "unclear"))
    by_result = [result.fates_by_position for result in results.values()]  # each computes it anew
    by_position = {row: _fates_of_positions(row, by_result) for row in fates}
    own = [
        f"{name} contradicts itself: {result.sentence}"
        for name, result in results.items()
        if result.verdict.name == "contradictory"
    ]
    between = [disagreement(sides, rows, len(fates)) for sides, rows in disputed.items()]
    between += [doubt_sentence(fate, doubt) for fate, doubt in doubted.items()]
    rest = rest_counts_sentence(results)
    named = {name for sides in disputed for _, names in sides for name in names}
    named |= {name for name, result in results.items() if rest and result.examined}
    lengths = [r.fate_iterations for r in results.values() if r.fates and r.fate_iterations is not None]
    return Fates(
        fates,
        by_position,
        (*own, *between),
        differences_that_die_out(results, fates),
        (
            *filter(None, (rest, *(result.caveat for result in results.values()))),
            *criteria([name for name in results if name in named], results),
        ),
        min(lengths, default=None),
        rest_range(results),
        max((result.kept for result in results.values()), default=0),
        beyond,
    )


def _like_the_denied(
    by_row: Mapping[int, Mapping[str, Fate]], fates: Mapping[int, Fate]
) -> dict[Fate, Doubt]:
    """By fate, the examples to which some analyses give it, where others didn't examine them, but
    denied it of most of the examples that they did examine, and of more than half with 95 %
    confidence: it is no better known of the rest."""
    result: dict[Fate, Doubt] = {}
    for fate in dict.fromkeys(fates.values()):
        if fate == "unclear":
            continue
        claimed = [by_name for by_name in by_row.values() if fate in by_name.values()]
        denied = [[n for n, one in by_name.items() if not can_both_hold(fate, one)] for by_name in claimed]
        deniers = {name for names in denied for name in names}
        confirmed = sum(any(by_name.get(name) == fate for name in deniers) for by_name in claimed)
        no = sum(map(bool, denied))
        if not deniers or share_interval(no, no + confirmed)[0] <= 0.5:
            continue
        alone = [row for row, one in fates.items() if one == fate and deniers.isdisjoint(by_row[row])]
        if alone:
            result[fate] = Doubt(alone, tuple(sorted(deniers)), no, no + confirmed)
    return result


def _fates_of_positions(row: int, results: Iterable[Mapping[int, Sequence[Fate | None]]]) -> list[Fate]:
    """Of an example's positions that count; unclear where two analyses disagree on one."""
    by_analysis = [one[row] for one in results if row in one]
    if len({len(fates) for fates in by_analysis}) != 1:
        return []
    result: list[Fate] = []
    for several in zip(*by_analysis, strict=True):
        fates = [fate for fate in several if fate is not None]
        if fates:
            agree = all(can_both_hold(a, b) for a in fates for b in fates)
            result.append(_most_specific(fates) if agree else "unclear")
    return result


def _most_specific(fates: Collection[Fate]) -> Fate:
    for fate in _SPECIFIC:
        if fate in fates:
            return fate
    return "unclear"
