"""The change of accuracy between two iterations, on the same answers, with an interval that allows
for changes that none of the examples has."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.evidence import LEVEL, Estimate, resample, share_estimate, share_interval

MIN_EXAMPLES, RESAMPLES = 12, 2000


@dataclass(frozen=True)
class AccuracyChange:
    """The same answers after k iterations and at the end."""

    before: tuple[int, ...]
    """The k; two where the halves of the examples differ in it, ascending."""
    first: float
    """Accuracy after k iterations, 0..1."""
    last: float
    """Accuracy at the end, 0..1."""
    lost: int
    """Answers right after k iterations and wrong at the end."""
    gained: int
    """Answers wrong after k iterations and right at the end."""
    low: float
    """Lower end of the interval of last - first: that of a bootstrap over examples, or of
    `unseen_interval` where that is lower. NaN for one example."""
    high: float
    changed: Estimate
    """The share of examples whose number of right answers changes."""

    @property
    def change(self) -> float:
        """last - first."""
        return self.last - self.first

    @property
    def margin(self) -> float:
        """The largest change that the interval allows, in either direction; NaN for one example."""
        return max(abs(self.low), abs(self.high)) if self.low == self.low else math.nan

    @property
    def text(self) -> str:
        """The change in points of accuracy, with its interval."""
        if math.isnan(self.low):
            return f"{points(self.change)} points"
        return f"{points(self.change)} points ({points(self.low)} to {points(self.high)})"


def points(change: float) -> str:
    """A change of accuracy in points, to a tenth."""
    return f"{100 * change + 0.0:.1f}".replace("-0.0", "0.0")


def best_before(
    right: Bool[Tensor, "iteration item"], example: Int[Tensor, " item"]
) -> tuple[Bool[Tensor, " item"], tuple[int, ...]]:
    """The answers after the best iteration, and which that is: each half of the examples at the
    iteration that is best on the other half."""
    # Alternating examples, as a batch may be sorted.
    second = torch.isin(example, example.unique()[1::2])
    before, best = torch.zeros_like(right[0]), []
    for half in (second, ~second):
        others = right[:, ~half] if bool((~half).any()) else right
        hits = others.sum(1)[1:]
        k = 1 + int((hits == hits.max()).nonzero()[-1, 0])
        before = torch.where(half, right[k], before)
        best.append(k)
    return before, tuple(sorted(set(best)))


def sum_by_example(values: Tensor, example: Int[Tensor, " item"]) -> Float[Tensor, " example"]:
    """The sum over the items of each example that has some."""
    index = example.unique(return_inverse=True)[1]
    zeros = torch.zeros(int(index.max()) + 1 if len(index) else 0, dtype=torch.float64)
    return zeros.index_add(0, index, values.double())


def change_of(
    before: Bool[Tensor, " item"],
    last: Bool[Tensor, " item"],
    example: Int[Tensor, " item"],
    k: tuple[int, ...],
    *,
    times: int = 1,
) -> AccuracyChange:
    """The change of the same items between two iterations, with an interval that holds for `times`
    such changes at once."""
    more = sum_by_example(last.double() - before.double(), example)
    low = high = math.nan
    if len(more) >= (2 if times == 1 else MIN_EXAMPLES):
        items = sum_by_example(torch.ones_like(last), example)
        draws = resample(len(more), RESAMPLES)
        changes = more[draws].sum(1) / items[draws].sum(1)
        tail = (1 - LEVEL) / 2 / times
        low, high = float(changes.quantile(tail)), float(changes.quantile(1 - tail))
        wide = unseen_interval(more / items.mean(), 1 - 2 * tail)
        low, high = min(low, wide[0]), max(high, wide[1])
    return AccuracyChange(
        before=k,
        first=float(before.double().mean()),
        last=float(last.double().mean()),
        lost=int((before & ~last).sum()),
        gained=int((~before & last).sum()),
        low=low,
        high=high,
        changed=share_estimate("examples whose right answers change", int((more != 0).sum()), len(more)),
    )


def unseen_interval(change: Float[Tensor, " example"], level: float = LEVEL) -> tuple[float, float]:
    """An interval of the mean change of accuracy that allows for changes that no example has, as a
    bootstrap can't: where none changes, all its samples are the same.

    The shares of examples that gain and that lose have Wilson's intervals (1927), and their
    difference that of Newcombe (1998, method 10), times the mean size of a change. To the changes
    one of a whole example is added, as the size of what was not seen is unknown. With one answer to
    an example and no change it is Newcombe's interval; 64 examples then allow 5.7 points.

    Arguments:
        change: of each example's accuracy, -1..1.
    """
    total, changed = len(change), int((change != 0).sum())
    size = (float(change.abs().sum()) + 1) / (changed + 1)
    shares, ends = [], []
    for hits in (int((change > 0).sum()), int((change < 0).sum())):
        shares.append(hits / total)
        ends.append(share_interval(hits, total, level))
    (gain, loss), (of_gain, of_loss) = shares, ends
    below = math.hypot(gain - of_gain[0], of_loss[1] - loss)
    above = math.hypot(of_gain[1] - gain, loss - of_loss[0])
    return size * (gain - loss - below), size * (gain - loss + above)
