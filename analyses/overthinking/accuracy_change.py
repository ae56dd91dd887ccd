"""The change of accuracy between two iterations, on the same answers, with its interval."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.evidence import LEVEL, Estimate, resample, share_estimate

MIN_EXAMPLES, RESAMPLES = 12, 2000


@dataclass(frozen=True)
class AccuracyChange:
    """The same answers after k iterations and at the end."""

    before: float
    """The k; where two halves of the examples differ in it, their mean."""
    first: float
    """Accuracy after k iterations, 0..1."""
    last: float
    """Accuracy at the end, 0..1."""
    lost: int
    """Answers right after k iterations and wrong at the end."""
    gained: int
    """Answers wrong after k iterations and right at the end."""
    low: float
    """Lower end of the interval of last - first: bootstrap over examples. NaN for one example."""
    high: float
    changed: Estimate
    """The share of examples whose number of right answers changes."""

    @property
    def change(self) -> float:
        """last - first."""
        return self.last - self.first

    @property
    def text(self) -> str:
        """The change in points of accuracy, with its interval."""
        if math.isnan(self.low):
            return f"{_points(self.change)} points"
        return f"{_points(self.change)} points ({_points(self.low)} to {_points(self.high)})"


def _points(change: float) -> str:
    return f"{100 * change + 0.0:.1f}".replace("-0.0", "0.0")


def change_since_best(right: Bool[Tensor, "iteration item"], example: Int[Tensor, " item"]) -> AccuracyChange:
    """The change from the best iteration to the end; each half of the examples at the iteration
    that is best on the other half."""
    # Alternating examples, as a batch may be sorted.
    second = torch.isin(example, example.unique()[1::2])
    before, best = torch.zeros_like(right[0]), []
    for half in (second, ~second):
        others = right[:, ~half] if bool((~half).any()) else right
        hits = others.sum(1)[1:]
        k = 1 + int((hits == hits.max()).nonzero()[-1, 0])
        before = torch.where(half, right[k], before)
        best.append(k)
    return change_of(before, right[-1], example, sum(best) / 2)


def sum_by_example(values: Tensor, example: Int[Tensor, " item"]) -> Float[Tensor, " example"]:
    """The sum over the items of each example that has some."""
    index = example.unique(return_inverse=True)[1]
    zeros = torch.zeros(int(index.max()) + 1 if len(index) else 0, dtype=torch.float64)
    return zeros.index_add(0, index, values.double())


def change_of(
    before: Bool[Tensor, " item"],
    last: Bool[Tensor, " item"],
    example: Int[Tensor, " item"],
    k: float,
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
