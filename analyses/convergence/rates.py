"""Contraction rates of the distance to a limit: of all examples and positions, of some examples,
and of each position by itself."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopscope.maths.contraction_rate import Rate, contraction, no_rate

from .site_sums import SiteSums

CLEARANCE = 10.0
"""Rates are fitted where the distance is at least this many times the floor. The floor is the
larger of the numbers' precision and of the distance that is left in the second half of the extra
iterations. Where that distance still shrinks, it is the error of the limit rather than rounding,
which bends the line more; the distance must then be ten times as large again."""
_ROUNDING = 8
"""By so many precisions rounding alone may move a state at rest."""


class Rates:
    """Contraction rates of distances to a limit, fitted above their floor."""

    def __init__(self, sums: SiteSums, *, labels: range, middle: int, eps: float) -> None:
        """
        Arguments:
            sums: of the distance to the limit; the last is that of the limit itself.
            labels: the k of the distances before the limit.
            middle: index from which on what is left of the distance counts as the floor.
        """
        self.sums, self.labels, self.middle, self.eps = sums, labels, middle, eps
        self._counts = sums.used.sum(1)
        self._ends = sums.limit_norm.sum(1), sums.limit_step.sum(1)

    def rms(self) -> Float[Tensor, " state"]:
        """Distance to the limit, root mean square over examples and positions."""
        return (self.sums.square.sum(1) / self._counts.sum()).sqrt()

    def overall(self, examples: Int[Tensor, " example"] | None = None) -> Rate:
        """The rate of the root mean square distance over examples and positions.

        Arguments:
            examples: which examples, some of them repeated; None: all.
        """
        rows = torch.arange(len(self._counts)) if examples is None else examples
        count = self._counts[rows].sum()
        norm, step = (float((end[rows].sum() / count).sqrt()) for end in self._ends)
        return self._rate((self.sums.square_by_example[:, rows].sum(1) / count).sqrt(), norm, step)

    def by_example(self) -> Float[Tensor, " example"]:
        """The rate of each example over its positions; NaN where none can be fitted."""
        counted = (self._counts > 0).tolist()
        rates = [
            self.overall(torch.tensor([i])).value if counted[i] else math.nan for i in range(len(counted))
        ]
        return torch.tensor(rates)

    def by_position(self) -> Float[Tensor, " position"]:
        """The rate of each position over the examples; NaN where none can be fitted."""
        count = self.sums.used.sum(0)
        rms = (self.sums.square / count).sqrt()
        ends = (self.sums.limit_norm, self.sums.limit_step)
        norms, steps = ((end.sum(0) / count).sqrt().tolist() for end in ends)
        rates = [
            self._rate(rms[:, p], norms[p], steps[p]).value if norms[p] == norms[p] else math.nan
            for p in range(len(norms))
        ]
        return torch.tensor(rates)

    def _rate(self, rms: Tensor, norm: float, step: float) -> Rate:
        count, precision = len(self.labels), self.eps * norm
        left = float(rms[self.middle : count].max())
        floor = CLEARANCE * max(precision, left)
        floor = floor if step <= _ROUNDING * precision else 10 * floor
        if left > precision and step > _ROUNDING * precision and float(rms[0]) <= floor:
            return no_rate(
                "too much of the distance is left beyond the run, as where some positions haven't settled"
            )
        return contraction(rms[:count].tolist(), floor, self.labels)
