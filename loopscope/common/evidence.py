"""What a verdict rests on: how many examples, how they were counted, and whether other examples
could have given another verdict.

There are two ways to a verdict. Where each example has a verdict of its own, `by_examples` counts
them. Where a verdict is a function of all examples, `by_bootstrap` computes it again from examples
drawn with replacement. Both give `unclear` where the numbers allow more than one verdict.
"""

import functools
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .text import percent, plural
from .verdict import Verdict

V = TypeVar("V", bound=Verdict)

LEVEL = 0.95
"""Of all intervals, and the share of bootstrap samples that must agree."""
NEARLY_ALL = 0.9
"""A verdict speaks of all examples if, beyond those measured, at least this share has it."""
RESAMPLES = 200
"""Bootstrap samples of a verdict."""
CONSTANT = "the same in 95 % of samples"
"""What stands in place of an interval without width."""
LEAST_SUPPORT = 0.05
"""Verdicts of fewer bootstrap samples than this share are no alternatives."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    name: str
    """What it is, with its unit, such as "spectral radius at the fixed point, median"."""
    value: float
    low: float
    """NaN where it can't be known, as for a single example."""
    high: float

    @property
    def is_constant(self) -> bool:
        """Whether the interval has no width, to the three digits that are written."""
        return not math.isnan(self.low) and _three_digits(self.low) == _three_digits(self.high)

    @property
    def text(self) -> str:
        """Such as "0.52 (0.48 to 0.55)"."""
        if math.isnan(self.low) or math.isnan(self.high):
            return _three_digits(self.value)
        if self.is_constant:
            return f"{_three_digits(self.value)} ({CONSTANT})"
        return f"{_three_digits(self.value)} ({_three_digits(self.low)} to {_three_digits(self.high)})"

    @property
    def share_text(self) -> str:
        """The same of a share, such as "86 % (82 to 90 %)"."""
        if math.isnan(self.low) or math.isnan(self.high):
            return percent(self.value)
        if self.is_constant:
            return f"{percent(self.value)} ({CONSTANT})"
        return f"{percent(self.value)} ({percent(self.low).removesuffix(' %')} to {percent(self.high)})"


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on."""

    examples: int
    """How many examples were measured."""
    support: dict[str, float]
    """By name of a verdict: the share of examples that have it (by counting), or of bootstrap
    samples that give it. They sum to 1."""
    how: str
    """How it was decided, as a sentence."""
    alternatives: tuple[Verdict, ...] = ()
    """The verdicts that these numbers allow; empty unless the verdict is `unclear`. One alone is
    possible, but given by too few bootstrap samples; none: no verdict can be given, and `how` says
    why."""
    estimates: tuple[Estimate, ...] = field(default=())
    """The numbers that the verdict is about, with their intervals."""

    @property
    def unclear_sentence(self) -> str:
        """The verdict `unclear` with what it stands between."""
        if not self.alternatives:
            return f"Unclear: these numbers give no conclusion. {self.how}"
        if len(self.alternatives) == 1:
            return f"Unclear. Possible, but not established: {self.alternatives[0].sentence}"
        choices = " ".join(f"({i}) {v.sentence}" for i, v in enumerate(self.alternatives, 1))
        several = "both" if len(self.alternatives) == 2 else "all of these"
        return f"Unclear, these numbers allow {several}: {choices}"


def by_examples(
    verdicts: Sequence[V], *, mixed: V, unclear: V, unresolved: V | None = None
) -> tuple[V, Evidence]:
    """The verdict on several examples, each with a verdict of its own, and its evidence.

    It is the verdict that all of them have, or that nearly all examples have by the lower end of
    the share's interval; `mixed` where the interval excludes that, or no verdict has more than half
    of them; `unresolved` where it depends on examples whose own verdict is that; else `unclear`.

    Arguments:
        verdicts: one for each example, at least one; `unclear` and `unresolved` may be among them.
    """
    count, total = Counter(verdicts), len(verdicts)
    missing = {unclear} | ({unresolved} if unresolved is not None else set())
    known = [(v, k) for v, k in count.most_common() if v not in missing]
    unknown = total - sum(k for _, k in known)
    support = {v.name: k / total for v, k in count.most_common()}

    def result(verdict: V, alternatives: Collection[V] = ()) -> tuple[V, Evidence]:
        return verdict, Evidence(total, support, _count_sentence(count, total), tuple(alternatives))

    if not known:
        return result(unresolved if unresolved is not None and unresolved in count else unclear)
    best, k = known[0]
    if k == total or share_interval(k, total)[0] >= NEARLY_ALL:
        return result(best)
    at_most = k + unknown
    if len(known) > 1 and (2 * at_most <= total or share_interval(at_most, total)[1] < NEARLY_ALL):
        return result(mixed)
    if len(known) == 1 and unresolved is not None and unresolved in count:
        return result(unresolved)
    return result(unclear, (best, mixed))


def by_bootstrap(
    verdict_of: Callable[[Int[Tensor, " example"]], V],
    examples: int,
    *,
    unclear: V,
    resamples: int = RESAMPLES,
    least: int = 1,
    seed: int = 0,
    called: str = "example",
) -> tuple[V, Evidence]:
    """A verdict that is a function of all examples, and its evidence: in which share of bootstrap
    samples of the examples (Efron 1979) it comes out the same.

    Arguments:
        verdict_of: the verdict on the examples with these indices, some of them repeated.
        examples: how many there are.
        unclear: the verdict where fewer than 95 % of the samples agree with that on all examples.
        least: with fewer examples than this the verdict is `unclear`.
        called: what one is, such as "fresh example" where they aren't the run's own.
    """
    every = torch.arange(examples)
    verdict = verdict_of(every)
    draws = list(resample(examples, resamples, seed)) if examples > 1 else []
    counts = Counter([verdict_of(draw) for draw in draws] or [verdict])
    total = sum(counts.values())
    support = {v.name: k / total for v, k in counts.most_common()}
    how = (
        f"The same verdict in {counts[verdict]} of {total} bootstrap samples of the "
        f"{plural(examples, called)}."
        if draws
        else "It was measured on one example, and says nothing of others."
    )
    if examples < least:
        few = f"{plural(examples, called)} {'is' if examples == 1 else 'are'} too few"
        how = f"{few} for a verdict, which needs {least}."
        return unclear, Evidence(examples, support, how)
    likely = [v for v, k in counts.most_common() if v is not unclear and k / total >= LEAST_SUPPORT]
    if verdict is unclear and draws:
        others = "; ".join(f"{percent(counts[v] / total)}: {v.sentence}" for v in likely)
        samples = (
            f"does any of {total}"
            if counts[unclear] == total
            else f"do {percent(counts[unclear] / total)} of {total}"
        )
        how = (
            f"All {plural(examples, called)} together give no verdict, nor {samples} bootstrap samples of "
            "them." + (f" Of the rest: {others}" if others else "")
        )
    if verdict is unclear:
        return verdict, Evidence(examples, support, how, tuple(likely))
    if counts[verdict] / total >= LEVEL:
        return verdict, Evidence(examples, support, how)
    likely += [v for v, _ in counts.most_common() if v is not unclear and v not in likely][: 2 - len(likely)]
    return unclear, Evidence(examples, support, how, tuple(likely))


def resample(examples: int, resamples: int = RESAMPLES, seed: int = 0) -> Int[Tensor, "sample example"]:
    """Indices of examples drawn with replacement: the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, examples, (resamples, examples), generator=generator)


def estimate(
    name: str,
    statistic: Callable[[Int[Tensor, " example"]], float],
    examples: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A statistic of the examples with its 95 % interval: percentiles over bootstrap samples.

    Samples repeat examples, which makes some statistics smaller or larger, such as a number of
    dimensions. An interval that leaves the value out by this is moved by the median's bias.

    Arguments:
        statistic: its value on the examples with these indices, some of them repeated.
    """
    value = statistic(torch.arange(examples))
    if examples < 2:
        return Estimate(name, value, math.nan, math.nan)
    values = torch.tensor([statistic(draw) for draw in resample(examples, resamples, seed)]).double()
    values = values[values.isfinite()]
    if len(values) < resamples / 2:
        return Estimate(name, value, math.nan, math.nan)
    ends = torch.tensor([(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], dtype=values.dtype)
    low, median, high = values.quantile(ends).tolist()
    bias = 0.0 if low <= value <= high else median - value
    return Estimate(name, value, low - bias, high - bias)


def mean_estimate(name: str, values: Float[Tensor, " example"]) -> Estimate:
    """The mean over examples with its interval, NaN left out; NaN if all are."""
    known = values[~values.isnan()].double()
    if not len(known):
        return Estimate(name, math.nan, math.nan, math.nan)
    return estimate(name, lambda draw: float(known[draw].mean()), len(known))


def with_unseen(share: Estimate, examples: int) -> Estimate:
    """A share, counted over parts of examples, with an interval that allows for examples unlike
    these: where all samples give the same share, that of as many trials as there are examples."""
    if math.isnan(share.low) or not share.is_constant or not 0 <= share.value <= 1:
        return share
    low, high = share_interval(round(share.value * examples), examples)
    return replace(share, low=min(low, share.value), high=max(high, share.value))


def share_estimate(name: str, hits: int, total: int) -> Estimate:
    """A share of examples with its interval."""
    low, high = share_interval(hits, total)
    return Estimate(name, hits / total if total else math.nan, low, high)


@functools.cache
def share_interval(hits: int, total: int, level: float = LEVEL) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's score (1927), or that of another level; NaN for
    none."""
    from scipy.stats import binomtest

    if total == 0:
        return math.nan, math.nan
    interval = binomtest(hits, total).proportion_ci(level, "wilson")
    return float(interval.low), float(interval.high)


def interval_text(hits: int, total: int) -> str:
    """The 95 % interval of a share, such as "57 to 98 %"."""
    low, high = share_interval(hits, total)
    return f"{percent(low).removesuffix(' %')} to {percent(high)}"


def _three_digits(value: float) -> str:
    """Three significant digits; thousands as whole numbers, such as "3,349"."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def _count_sentence(count: Counter[V], total: int) -> str:
    if len(count) == 1:
        return f"The same in each of {plural(total, 'example')} ({interval_text(total, total)} of all)."
    parts = [
        f"“{verdict.brief}”: {k} of {plural(total, 'example')} ({interval_text(k, total)})"
        for verdict, k in count.most_common()
    ]
    return f"{'; '.join(parts)}."
