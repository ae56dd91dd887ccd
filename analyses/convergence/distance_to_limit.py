"""One site's way to its limit: steps, distances, cosines, what has settled, and how fast it
contracts."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.core.indexing import as_vectors
from loopscope.core.states import States
from loopscope.maths.contraction_rate import Rate, contraction

CLEAR = 10.0
"""Rates are read where the distance is so many times the floor: the larger of the numbers'
precision and of what is left of the distance in the second half of the extra iterations. Ten times
as far where that still shrinks, for then it isn't rounding but the limit's own error, which bends
the line more."""
_STILL = 8  # precisions: what rounding alone may move a state at rest


@dataclass(frozen=True)
class Approach:
    """One site's way to its limit. `state` counts k, the values shown; `iteration` counts t, the
    steps between them."""

    site: str
    first: int
    """The k of the first value."""
    step: Float[Tensor, "iteration position"]
    """Step size, mean over examples."""
    relative_step: Float[Tensor, "iteration position"]
    """Step size over the norm, mean over examples."""
    distance: Float[Tensor, "state position"]
    """Distance to the limit, mean over examples."""
    cosine: Float[Tensor, "state position"]
    """Cosine to the limit, mean over examples."""
    settled: Float[Tensor, "iteration position"]
    """Fraction of examples settled from that iteration on."""
    whole: Float[Tensor, " state"]
    """Distance to the limit, root mean square over examples and positions."""
    norm: Float[Tensor, " state"]
    """Norm, mean over examples and positions."""
    rate: Rate
    """Contraction factor per iteration of `whole`."""
    rate_by_position: Float[Tensor, " position"]
    """The same for each position; NaN where there is none."""
    residual: float
    """‖F(x*) - x*‖ / ‖x*‖, mean over examples and positions."""
    residual_max: float
    """Its largest value."""
    settled_end: float
    """Fraction of positions settled during the extra iterations at the latest."""
    growth: float
    """The least mean norm of the last quarter of the extra iterations over the largest of the
    second half shown: above 1 only where the norm has left the range that it had, which a turn
    doesn't."""
    steadiness: float
    """The mean step of that last quarter over that of the second half shown."""

    @property
    def slowest(self) -> float:
        """The largest of the positions' rates; NaN if none has one."""
        known = self.rate_by_position[~self.rate_by_position.isnan()]
        return known.max().item() if len(known) else float("nan")

    @property
    def share(self) -> Float[Tensor, " iteration"]:
        """Fraction of all examples and positions settled from that iteration on."""
        return self.settled.mean(1)


def approach(states: States, shown: int, limit: int, tolerance: float) -> Approach:
    """Follow a site's values to that at `limit`; those up to `shown` are what the result shows."""
    labels = states.iterations
    if labels != list(range(labels[0], labels[-1] + 1)) or shown - labels[0] < 1:
        raise LoopscopeError(
            f"convergence needs values of '{states.name}' one iteration after the other, but there are "
            f"{labels}. Record again without keep=."
        )
    labels = range(labels[0], limit + 2)
    values = [_vectors(states, k) for k in labels]
    s, m = shown - labels[0], limit - labels[0]  # places in `values`
    goal = values[m]
    norm = torch.stack([v.norm(dim=-1) for v in values])
    step = torch.stack([(b - a).norm(dim=-1) for a, b in zip(values, values[1:], strict=False)])
    relative = torch.where(step == 0, 0, step / norm[1:])
    distance = torch.stack([(v - goal).norm(dim=-1) for v in values[: m + 1]])
    cosine = torch.stack([torch.nn.functional.cosine_similarity(v, goal, dim=-1) for v in values[: s + 1]])
    still = (relative < tolerance).flip(0).cummin(0).values.flip(0)  # from t on, to the end
    square = distance.double().square()
    size, last = norm[m].double().square(), step[m].double().square()
    left, end = slice(s + (m - s) // 2, m), slice(s + 3 * (m - s) // 4, m + 1)
    eps = torch.finfo(states[labels[0]].dtype).eps

    def rate(rms: Tensor, size: Tensor, moves: float) -> Rate:
        grain = eps * float(size)
        floor = CLEAR * max(grain, float(rms[left].max()))
        return contraction(rms[:m].tolist(), floor if moves <= _STILL * grain else 10 * floor, labels[:m])

    whole, by_position = square.mean((1, 2)).sqrt(), square.mean(1).sqrt()
    sizes, mean_norm = size.mean(0).sqrt(), norm.mean((1, 2))
    moves = last.mean(0).sqrt().tolist()
    residual = torch.where(step[m] == 0, 0, step[m] / norm[m])
    return Approach(
        site=states.name,
        first=labels[0],
        step=step[:s].mean(1),
        relative_step=relative[:s].mean(1),
        distance=distance[: s + 1].mean(1),
        cosine=cosine.mean(1),
        settled=still[:s].float().mean(1),
        whole=whole[: s + 1].float(),
        norm=mean_norm[: s + 1],
        rate=rate(whole, size.mean().sqrt(), float(last.mean().sqrt())),
        rate_by_position=torch.tensor(
            [rate(by_position[:, p], sizes[p], moves[p]).value for p in range(len(sizes))]
        ),
        residual=residual.mean().item(),
        residual_max=residual.max().item(),
        settled_end=still[end.start].float().mean().item(),
        growth=(mean_norm[end].min() / mean_norm[s // 2 : s + 1].max()).item(),
        steadiness=(step[end].mean() / step[s // 2 : s].mean()).item(),
    )


def _vectors(states: States, k: int) -> Float[Tensor, "batch position width"]:
    """The value at k as one vector per example and position; a site without positions has one."""
    value = states[k].detach()
    value = value.float() if torch.finfo(value.dtype).bits < 32 else value
    return as_vectors(value, states.axes[1:])
