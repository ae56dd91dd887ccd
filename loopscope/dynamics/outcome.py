"""What becomes of each row of a continued run: one judgement, which all analyses of the map share,
so that they can't contradict each other."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.fate import Fate
from ..maths.precision import resolution, rounding
from ..maths.step_decay import step_decay
from .iteration_map import IterationMap
from .limit_point import NEWTON_STEP, Limit
from .point_spectrum import ONE, point_spectrum

EXAMPLES = 12
"""How many examples the analyses of the map follow: the first of the run that count."""
MARGIN = ONE.margin
"""A spectral radius this near to 1 neither attracts nor repels."""
SHRINKS = 0.9
"""A distance falls if, over the second half of the states, it comes below this fraction of
itself."""
STEADY = 0.9
"""Motion goes on if the largest step of the last quarter is at least this fraction of that of the
quarter before."""
CONSTANT = 1e-6
"""A distance that falls by a smaller fraction than this is constant."""

Outcome = Literal["converged", "approaching", "unstable", "moving", "elsewhere", "growing", "unresolved"]
"""- converged: at a fixed point, for the whole last quarter of the iterations or ever nearer.
- approaching: ever nearer to a fixed point that doesn't repel, but not there yet.
- unstable: at a fixed point that repels, as one that begins upon it is.
- moving: at no fixed point, and its steps go on as large as before, as far as can be told.
- elsewhere: at no fixed point; whether it comes to rest later isn't known.
- growing: without bound.
- unresolved: the precision of the numbers can't tell."""

_FATES: dict[Outcome, Fate] = {
    "converged": "converges",
    "approaching": "approaches",
    "moving": "moves",
    "growing": "grows",
}


def outcomes(
    limit: Limit, radius: Float[Tensor, " row"], margin: float = MARGIN, at: float = NEWTON_STEP
) -> tuple[Outcome, ...]:
    """What becomes of each row.

    Arguments:
        radius: the spectral radius at each row's point, as from `end_radii`; NaN where unknown.
        margin: a point repels if its radius is above 1 by more than this.
        at: a row is at its point within this part of its scale, or within rounding.
    """
    return tuple(_outcome(limit, row, float(radius[row]), margin, at) for row in range(len(radius)))


def end_radii(loop: IterationMap, limit: Limit, at: float = NEWTON_STEP) -> Float[Tensor, " row"]:
    """The spectral radius at each row's point, where the row is there or comes nearer; NaN
    elsewhere, or where it isn't found."""
    radius = torch.full((len(limit.point),), torch.nan, dtype=torch.float64)
    for row in range(len(radius)):
        if bool(limit.resolved[row]) and not bool(limit.diverges[row]) and nears_point(limit, row, at):
            result = point_spectrum(loop, limit, row)
            radius[row] = decided(result.radius, result.error[:, 0])[0]
    return radius


def decided(
    radius: Float[Tensor, " row"], error: Float[Tensor, " row"], margin: float = MARGIN
) -> Float[Tensor, " row"]:
    """The radii of which it is known whether they are above 1, below 1 or within the margin; NaN
    for the others."""
    line = ONE._replace(margin=margin)
    known = [line.decides(*pair) for pair in zip(radius.tolist(), error.tolist(), strict=True)]
    return torch.where(torch.tensor(known), radius, torch.nan)


def nears_point(limit: Limit, row: int, at: float = NEWTON_STEP) -> bool:
    """Whether a row is at its point or approaches it, if that doesn't repel."""
    return is_at_point(limit, row, at) or is_approaching(limit, row)


CRITERION = (
    "whether the whole continued state, with what belongs to no position, comes to a fixed point that "
    "solvers find, and attracts"
)
"""By what an outcome is decided."""


def fates_of(rows: Sequence[int], ends: Sequence[Outcome]) -> dict[int, Fate]:
    """The fates that outcomes imply, by the example's index in the run; the others are left out."""
    return {row: _FATES[end] for row, end in zip(rows, ends, strict=True) if end in _FATES}


def is_at_point(limit: Limit, row: int, at: float = NEWTON_STEP) -> bool:
    """Whether a row ends at its point: there for the whole last quarter of the iterations, or ever
    nearer. Chaos that passes by is not."""
    norm = limit.states[-1, row].norm()
    near = max(at * float(limit.scale[row]), float(rounding(norm, resolution(limit.states.dtype))))
    gaps = limit.distances(row)
    stays = float(gaps[-max(1, len(gaps) // 4) :].max()) <= near
    return stays or (float(gaps[-1]) <= near and _fall(gaps) < SHRINKS)


def is_approaching(limit: Limit, row: int) -> bool:
    """Whether a row comes ever nearer to its point."""
    fall = _fall(limit.distances(row))
    return fall < SHRINKS or (fall < 1 - CONSTANT and limit.rate(row).points > 0)


def keeps_moving(limit: Limit, row: int) -> bool:
    """Whether a row's steps in the last quarter are no small part of its scale, and as large as in
    the quarter before, and don't shrink in such a way that they lead to a point."""
    steps = (limit.states[1:, row] - limit.states[:-1, row]).norm(dim=1)
    quarter = max(1, len(steps) // 4)
    late, before = _peak(steps[-quarter:]), _peak(steps[-2 * quarter : -quarter])
    goes_on = late > NEWTON_STEP * float(limit.scale[row]) and late >= STEADY * before
    return goes_on and not bool(step_decay(steps[len(steps) // 2 :, None]).ends)


def _outcome(limit: Limit, row: int, radius: float, margin: float, at: float) -> Outcome:
    if bool(limit.diverges[row]):
        return "growing" if bool(limit.started[row]) else "unresolved"
    if not bool(limit.resolved[row]):
        return "unresolved"
    repels = radius > 1 + margin
    if is_at_point(limit, row, at):
        return "unstable" if repels else "converged"
    if not repels and is_approaching(limit, row):
        return "approaching"
    return "moving" if keeps_moving(limit, row) else "elsewhere"


def _fall(gaps: Float[Tensor, " state"]) -> float:
    """The largest distance of the last eighth over that of the one from the middle on, if those
    between fall one after another; else, and without a point, 1. Chaos comes near to a point now
    and then, but not ever nearer."""
    late = gaps[len(gaps) // 2 :]
    peaks = [float(block.max()) for block in late.tensor_split(min(4, len(late)))]
    falls = all(b < (1 - CONSTANT / 4) * a for a, b in zip(peaks, peaks[1:], strict=False))
    return peaks[-1] / peaks[0] if falls and peaks[0] > 0 else 1.0


def _peak(steps: Float[Tensor, " iteration"]) -> float:
    return float(steps.max()) if len(steps) else 0.0
