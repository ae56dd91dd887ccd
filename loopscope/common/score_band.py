"""A score by iteration, with its 95 % intervals over examples."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .bands import mean_band
from .evidence import Estimate, share_interval


@dataclass(frozen=True)
class ScoreBand:
    """The mean of a score at each point of a curve, with its 95 % interval."""

    value: Float[Tensor, " point"]
    low: Float[Tensor, " point"]
    """NaN where it can't be known, as for a single example."""
    high: Float[Tensor, " point"]
    examples: int
    """Those that have an answer to give."""

    def at(self, point: int, name: str) -> Estimate:
        """The value at one point, as an estimate of that name."""
        return Estimate(name, *(float(part[point]) for part in (self.value, self.low, self.high)))


def score_band(
    correctness: Float[Tensor, "point example position"], mask: Bool[Tensor, "example position"]
) -> ScoreBand:
    """The mean of all answers, with its interval over examples.

    The interval is that of bootstrap samples of the examples (Efron 1979). Where each example is
    wholly right or wholly wrong it is Wilson's for a share (1927): without a wrong example all
    bootstrap samples would be the same, and their interval nothing.

    Arguments:
        correctness: of each answer, 1 for a correct one.
        mask: where an answer is to be given; a NaN there makes the point NaN.
    """
    answered = mask.any(1)
    count = int(answered.sum())
    if not count:
        nothing = torch.full((len(correctness),), math.nan)
        return ScoreBand(nothing, nothing, nothing, 0)
    example = torch.arange(len(mask))[:, None].expand_as(mask)[mask]
    values = correctness[:, mask]  # (point, answer)
    low, high = mean_band(values, example)
    inside = correctness.where(mask, 0.0)[:, answered]
    share = inside.sum(2) / mask[answered].sum(1)  # (point, example)
    for i in ((share == 0) | (share == 1)).all(1).nonzero()[:, 0].tolist():
        low[i], high[i] = share_interval(int(share[i].sum()), count)
    known = values.isfinite().all(1)
    value, low, high = (part.float().where(known, math.nan) for part in (values.mean(1), low, high))
    return ScoreBand(value, low, high, count)
