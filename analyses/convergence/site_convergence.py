"""How one site converges: steps, distances and cosines to its limit, the settled fraction, and the
contraction rate."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.core.indexing import as_vectors
from loopscope.core.masked import masked_mean
from loopscope.core.states import States
from loopscope.maths.contraction_rate import Rate, contraction
from loopscope.maths.precision import resolution

from .settling import settling

CLEARANCE = 10.0
"""Rates are fitted where the distance is at least this many times the floor. The floor is the
larger of the numbers' precision and of the distance that is left in the second half of the extra
iterations. Where that distance still shrinks, it is the error of the limit rather than rounding,
which bends the line more; the distance must then be ten times as large again."""
_ROUNDING = 8
"""By so many precisions rounding alone may move a state at rest."""


@dataclass(frozen=True)
class SiteConvergence:
    """How one site converges. The axis `state` counts k, `iteration` counts t, the steps between
    them. Only positions that count are measured; a position that counts in no example is NaN."""

    site: str
    first: int
    """The k of the first value."""
    step: Float[Tensor, "iteration position"]
    """Step size, mean over examples."""
    relative_step: Float[Tensor, "iteration position"]
    """Step size over the norm, mean over examples."""
    step_of_range: Float[Tensor, "iteration position"]
    """Step size over the range, the largest distance to the limit; mean over examples. A constant
    added to all states doesn't change it."""
    distance: Float[Tensor, "state position"]
    """Distance to the limit, mean over examples."""
    cosine: Float[Tensor, "state position"]
    """Cosine to the limit, mean over examples."""
    settled: Float[Tensor, "iteration position"]
    """Fraction of examples settled from that iteration on."""
    rms_distance: Float[Tensor, " state"]
    """Distance to the limit, root mean square over examples and positions."""
    norm: Float[Tensor, " state"]
    """Norm, mean over examples and positions."""
    rate: Rate
    """Contraction factor per iteration of `rms_distance`."""
    rate_by_position: Float[Tensor, " position"]
    """The same for each position; NaN where none can be fitted."""
    residual: float
    """‖F(x*) - x*‖ / ‖x*‖, mean over examples and positions."""
    residual_of_range: float
    """The same over the range."""
    residual_max: float
    """Its largest value."""
    settled_fraction: Float[Tensor, " iteration"]
    """Fraction of all examples and positions settled from that iteration on."""
    mean_step: Float[Tensor, " iteration"]
    """Step size, mean over examples and positions."""
    mean_cosine: Float[Tensor, " state"]
    """Cosine to the limit, mean over examples and positions."""
    settled_end: float
    """Fraction of examples and positions that have settled by the last quarter of the extra
    iterations."""
    undecided_end: float
    """Fraction that rests there as far as the precision of the states can tell, which is too low to
    tell rest from slow motion."""
    started: float
    """Fraction whose first step is more than rounding."""
    growth: float
    """The smallest mean norm of the last quarter of the extra iterations over the largest of the
    second half of the run: above 1 only where the norm has left its former range, which a rotation
    doesn't."""
    steadiness: float
    """The mean step of that last quarter over that of the second half of the run."""
    departure: float
    """`growth` of the distance from the first state, which a constant added to all states doesn't
    change."""

    @property
    def slowest_rate(self) -> float:
        """The largest of the positions' rates; NaN if none has one."""
        finite = self.rate_by_position[~self.rate_by_position.isnan()]
        return finite.max().item() if len(finite) else float("nan")

    @property
    def slowest_position(self) -> int | None:
        """The position with that rate; None if none has one."""
        return (
            None
            if self.slowest_rate != self.slowest_rate
            else int(self.rate_by_position.nan_to_num(-1).argmax())
        )

    @property
    def position_count(self) -> int:
        """How many positions count in some example."""
        return int((~self.step[0].isnan()).sum())

    @property
    def position_rates_sentence(self) -> str:
        """How many positions have a rate, and the slowest."""
        count = int((~self.rate_by_position.isnan()).sum())
        if not count:
            return "No single position has a rate either."
        return (
            f"{count} of {self.position_count} single positions have a rate; the slowest, position "
            f"{self.slowest_position}, contracts by {self.slowest_rate:.3g} per iteration."
        )


# It is long because it fills a line for each field of the result.
def site_convergence(
    states: States, end: int, limit: int, tolerance: float, *, mask: Bool[Tensor, "batch position"]
) -> SiteConvergence:
    """Measure how a site's values converge to the one at `limit`.

    Arguments:
        end: the last k of the result.
        limit: the k of the limit; the value after it is needed for the residual.
        tolerance: relative step, of norm and range, below which a position has settled.
        mask: which positions count.

    Raises:
        LoopscopeError: values of some iterations are missing.
    """
    labels = states.iterations
    if labels != list(range(labels[0], labels[-1] + 1)) or end - labels[0] < 1:
        raise LoopscopeError(
            f"convergence needs values of '{states.name}' one iteration after the other, but there are "
            f"{labels}. Record again without keep=."
        )
    labels = range(labels[0], limit + 2)
    values = [_vectors(states, k, mask) for k in labels]
    n, m = end - labels[0], limit - labels[0]  # indices in `values`
    eps = resolution(states[labels[0]].dtype)
    goal, first = values[m], values[0]
    norm = torch.stack([v.double().norm(dim=-1) for v in values])
    step = torch.stack([_gap(b, a) for a, b in zip(values, values[1:], strict=False)])
    relative = torch.where(step == 0, 0, step / norm[1:])
    distance = torch.stack([_gap(v, goal) for v in values[: m + 1]])
    mask = mask.to(goal.device)
    away = masked_mean(torch.stack([_gap(v, first) for v in values[: m + 1]]), mask, (1, 2))
    cosine = torch.stack(
        [torch.nn.functional.cosine_similarity(v.double(), goal.double(), dim=-1) for v in values[: n + 1]]
    )
    mean_norm = masked_mean(norm, mask, (1, 2))
    last_quarter, half = slice(n + 3 * (m - n) // 4, m + 1), slice(n // 2, n + 1)
    rest = settling(
        step,
        norm,
        distance.amax(0),
        goal,
        travel=distance[last_quarter.start],
        quarter=m - last_quarter.start,
        tolerance=tolerance,
        eps=eps,
    )
    residual = torch.where(step[m] == 0, 0, step[m] / norm[m])
    rates = _Rates(norm[m], step[m], labels[:m], n + (m - n) // 2, eps, mask=mask)
    square = distance.square()
    rms_distance = masked_mean(square, mask, (1, 2)).sqrt()
    has_settled, mean_step = rest.settled.float(), masked_mean(step, mask, (1, 2))
    return SiteConvergence(
        site=states.name,
        first=labels[0],
        step=masked_mean(step[:n], mask, 1).float(),
        relative_step=masked_mean(relative[:n], mask, 1).float(),
        step_of_range=masked_mean(rest.relative_to_range[:n], mask, 1).float(),
        distance=masked_mean(distance[: n + 1], mask, 1).float(),
        cosine=masked_mean(cosine, mask, 1).float(),
        settled=masked_mean(has_settled[:n], mask, 1),
        rms_distance=rms_distance[: n + 1].float(),
        norm=mean_norm[: n + 1].float(),
        rate=rates.overall(rms_distance),
        rate_by_position=rates.by_position(masked_mean(square, mask, 1).sqrt()),
        residual=residual[mask].mean().item(),
        residual_of_range=rest.relative_to_range[m][mask].mean().item(),
        residual_max=residual[mask].max().item(),
        settled_fraction=masked_mean(has_settled[:n], mask, (1, 2)),
        mean_step=mean_step[:n].float(),
        mean_cosine=masked_mean(cosine, mask, (1, 2)).float(),
        settled_end=has_settled[last_quarter.start][mask].mean().item(),
        undecided_end=rest.undecided[mask].float().mean().item(),
        started=rest.started[mask].float().mean().item(),
        growth=(mean_norm[last_quarter].min() / mean_norm[half].max()).item(),
        steadiness=(mean_step[last_quarter].mean() / mean_step[n // 2 : n].mean()).item(),
        departure=(away[last_quarter].min() / away[half].max()).item(),
    )


def _gap(a: Tensor, b: Tensor) -> Float[Tensor, "batch position"]:
    """The distance of two values, in double precision."""
    return (a.double() - b.double()).norm(dim=-1)


class _Rates:
    """Contraction rates of distances to a limit, fitted above their floor."""

    def __init__(
        self,
        norm: Float[Tensor, "batch position"],
        step: Float[Tensor, "batch position"],
        labels: range,
        middle: int,
        eps: float,
        *,
        mask: Bool[Tensor, "batch position"],
    ) -> None:
        """
        Arguments:
            norm: of the limit.
            step: of the iteration after it.
            labels: the k of the distances before the limit.
            middle: index from which on what is left of the distance counts as the floor.
        """
        self.norm, self.step = norm.double().square(), step.double().square()
        self.labels, self.middle, self.eps, self.mask = labels, middle, eps, mask

    def overall(self, rms: Float[Tensor, " state"]) -> Rate:
        norm, step = (float(value[self.mask].mean().sqrt()) for value in (self.norm, self.step))
        return self._rate(rms, norm, step)

    def by_position(self, rms: Float[Tensor, "state position"]) -> Float[Tensor, " position"]:
        norms, steps = (masked_mean(value, self.mask, 0).sqrt().tolist() for value in (self.norm, self.step))
        rates = [
            self._rate(rms[:, p], norms[p], steps[p]).value if norms[p] == norms[p] else math.nan
            for p in range(len(norms))
        ]
        return torch.tensor(rates)

    def _rate(self, rms: Tensor, norm: float, step: float) -> Rate:
        count, precision = len(self.labels), self.eps * norm
        floor = CLEARANCE * max(precision, float(rms[self.middle : count].max()))
        floor = floor if step <= _ROUNDING * precision else 10 * floor
        return contraction(rms[:count].tolist(), floor, self.labels)


def _vectors(states: States, k: int, mask: Tensor) -> Float[Tensor, "batch position width"]:
    """The value at k as one vector per example and position, zero where none counts; a site without
    positions has one."""
    x = as_vectors(states[k].detach(), states.axes[1:])
    return x.where(mask[..., None].to(x.device), torch.zeros_like(x))
