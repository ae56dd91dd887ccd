"""How one site converges: steps, distances and cosines to its limit, the settled fraction, and the
contraction rate."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.core.indexing import as_vectors
from loopscope.core.masked import masked_mean
from loopscope.core.states import States
from loopscope.maths.contraction_rate import Rate
from loopscope.maths.late_motion import LATE_MOTIONS, LateMotion, late_motion
from loopscope.maths.precision import resolution

from .extra_iterations import finite_positions
from .rates import Rates


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
    those beyond the run included."""
    undecided_end: float
    """Fraction that rests there as far as the numbers can tell, which can't tell rest from slow
    motion."""
    late_motion: Int[Tensor, "example position"]
    """What each position does at the end: its number in `loopscope.maths.late_motion.LATE_MOTIONS`;
    -1 where it doesn't count."""

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
    n, m = end - first, limit - first  # indices in `values`
    eps = resolution(states[first].dtype)
    motions, settled = _late_motion(states, last, tolerance, mask, eps)
    finite = mask & finite_positions(states, mask)
    mask = finite if bool(finite.any()) else mask  # without the positions that overflow
    values = [_vectors(states, k, mask) for k in range(first, limit + 2)]
    mask = mask.to(values[0].device)
    norm = torch.stack([v.double().norm(dim=-1) for v in values])
    step = torch.stack([_gap(b, a) for a, b in zip(values, values[1:], strict=False)])
    relative = torch.where(step == 0, 0, step / norm[1:])
    distance = torch.stack([_gap(v, values[m]) for v in values[: m + 1]])
    of_range = torch.where(step == 0, 0, step / distance.amax(0))
    similarity = torch.nn.functional.cosine_similarity
    cosine = torch.stack([similarity(v.double(), values[m].double(), dim=-1) for v in values[: n + 1]])
    middle, residual = n + (m - n) // 2, torch.where(step[m] == 0, 0, step[m] / norm[m])
    rates = Rates(distance, norm[m], step[m], labels=range(first, limit), middle=middle, eps=eps, mask=mask)
    result = SiteConvergence(
        site=states.name,
        first=first,
        step=masked_mean(step[:n], mask, 1).float(),
        relative_step=masked_mean(relative[:n], mask, 1).float(),
        step_of_range=masked_mean(of_range[:n], mask, 1).float(),
        distance=masked_mean(distance[: n + 1], mask, 1).float(),
        cosine=masked_mean(cosine, mask, 1).float(),
        settled=masked_mean(settled[:n].float(), motions >= 0, 1),
        rms_distance=rates.rms()[: n + 1].float(),
        norm=masked_mean(norm, mask, (1, 2))[: n + 1].float(),
        rate=rates.overall(),
        rate_by_position=rates.by_position(),
        residual=residual[mask].mean().item(),
        residual_of_range=of_range[m][mask].mean().item(),
        residual_max=residual[mask].max().item(),
        settled_fraction=masked_mean(settled[:n].float(), motions >= 0, (1, 2)),
        mean_step=masked_mean(step, mask, (1, 2))[:n].float(),
        mean_cosine=masked_mean(cosine, mask, (1, 2)).float(),
        settled_end=_share(motions, LateMotion.rests),
        undecided_end=_share(motions, LateMotion.unresolved),
        late_motion=motions,
    )
    return result, rates, settled[n - 1].sum(1)


def _late_motion(
    states: States, last: int, tolerance: float, mask: Bool[Tensor, "example position"], eps: float
) -> tuple[Int[Tensor, "example position"], Bool[Tensor, "iteration example position"]]:
    """(the late motion of each position, -1 where it doesn't count; whether it has settled from
    each iteration on)"""
    labels = range(states.iterations[0], last + 1)
    rows = [_vectors(states, k, mask)[mask.to(states[k].device)] for k in labels]
    result = late_motion(rows, tolerance, eps)
    code = torch.full(mask.shape, -1)
    code[mask.cpu()] = result.code.cpu()
    settled = torch.zeros(len(result.settled), *mask.shape, dtype=torch.bool)
    settled[:, mask.cpu()] = result.settled.cpu()
    return code, settled


def _share(motions: Int[Tensor, "example position"], motion: LateMotion) -> float:
    return int((motions == LATE_MOTIONS.index(motion)).sum()) / int((motions >= 0).sum())


def _gap(a: Tensor, b: Tensor) -> Float[Tensor, "batch position"]:
    """The distance of two values, in double precision."""
    return (a.double() - b.double()).norm(dim=-1)


def _vectors(states: States, k: int, mask: Tensor) -> Float[Tensor, "batch position width"]:
    """The value at k as one vector per example and position, zero where none counts; a site without
    positions has one."""
    x = as_vectors(states[k].detach(), states.axes[1:])
    return x.where(mask[..., None].to(x.device), torch.zeros_like(x))
