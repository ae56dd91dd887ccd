"""How one site converges: steps, distances and cosines to its limit, the settled fraction, and the
contraction rate."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.core.states import States
from loopscope.maths.contraction_rate import Rate
from loopscope.maths.late_motion import LATE_MOTIONS, LateMotion
from loopscope.maths.precision import resolution

from .rates import Rates
from .site_sums import Span, site_sums


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
    """Fraction of examples and positions that have settled by the last quarter of all iterations,
    those beyond the run included, or stopped at once."""
    undecided_end: float
    """Fraction that rests there as far as the numbers can tell, which can't tell rest from slow
    motion."""
    late_motion: Int[Tensor, "example position"]
    """What each position does at the end: its number in `loopscope.maths.late_motion.LATE_MOTIONS`;
    -1 where it doesn't count."""

    @property
    def frozen(self) -> int:
        """Positions that stopped at once, from a step above the tolerance to none at all: a model
        keeps the state of what has halted. They come to rest, but not by converging."""
        return int((self.late_motion == LATE_MOTIONS.index(LateMotion.stops)).sum())

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
            return "Nor does one fit the rms distance over the examples at any single position."
        return (
            f"Fitted to each position by itself, {count} of {self.position_count} have a rate; the slowest "
            f"is {self.slowest_rate:.3g}, at position {self.slowest_position}."
        )


# It is long because it fills a line for each field of the result.
def site_convergence(
    states: States,
    end: int,
    limit: int,
    tolerance: float,
    *,
    mask: Bool[Tensor, "example position"],
    last: int | None = None,
) -> tuple[SiteConvergence, Rates, Int[Tensor, " example"]]:
    """How a site's values converge to the one at `limit`, the rates of any of its examples, and how
    many positions of each example have settled by `end`.

    Arguments:
        end: the last k of the result.
        limit: the k of the limit; the value after it is needed for the residual.
        tolerance: relative step, of norm and range, below which a position has settled.
        mask: which positions count.
        last: the last k by which it is judged where the values go; None: the limit.

    Raises:
        LoopscopeError: values of some iterations are missing.
    """
    labels, last = states.iterations, limit if last is None else last
    if labels != list(range(labels[0], labels[-1] + 1)) or end - labels[0] < 1:
        raise LoopscopeError(
            f"convergence needs values of '{states.name}' one iteration after the other, but there are "
            f"{labels}. Record again without keep=."
        )
    first = labels[0]
    span = Span(end - first, limit - first, last - first)
    sums = site_sums(states, span, tolerance, mask)
    (n, m, _), used, motions = span, sums.used, sums.motion - 1
    examples, counted = used.sum(0), (motions >= 0).sum(0)
    rates = Rates(
        sums,
        labels=range(first, limit),
        middle=n + (m - n) // 2,
        eps=resolution(states[first].dtype),
    )
    result = SiteConvergence(
        site=states.name,
        first=first,
        step=_mean(sums.step[:n], examples).float(),
        relative_step=_mean(sums.relative, examples).float(),
        step_of_range=_mean(sums.of_range[:n], examples).float(),
        distance=_mean(sums.distance, examples).float(),
        cosine=_mean(sums.cosine, examples).float(),
        settled=_mean(sums.settled, counted).float(),
        rms_distance=rates.rms()[: n + 1].float(),
        norm=(sums.norm / used.sum()).float(),
        rate=rates.overall(),
        rate_by_position=rates.by_position(),
        residual=sums.residual[used].mean().item(),
        residual_of_range=(sums.of_range[m].sum() / used.sum()).item(),
        residual_max=sums.residual[used].max().item(),
        settled_fraction=(sums.settled.sum(1) / counted.sum()).float(),
        mean_step=(sums.step[:n].sum(1) / used.sum()).float(),
        mean_cosine=(sums.cosine.sum(1) / used.sum()).float(),
        settled_end=_share(motions, LateMotion.rests) + _share(motions, LateMotion.stops),
        undecided_end=_share(motions, LateMotion.unresolved),
        late_motion=motions,
    )
    return result, rates, sums.within


def _mean(
    total: Float[Tensor, "row position"], count: Int[Tensor, " position"]
) -> Float[Tensor, "row position"]:
    """NaN where nothing counts."""
    return torch.where(count > 0, total / count.clamp(min=1), torch.nan)


def _share(motions: Int[Tensor, "example position"], motion: LateMotion) -> float:
    return int((motions == LATE_MOTIONS.index(motion)).sum()) / int((motions >= 0).sum())
