"""Whether steps shrink in such a way that they lead to a point, and how far away that is.

A path whose steps have a finite sum ends at a point, whatever its shape. From some iterations a
finite sum can't be proved, only extrapolated: steps that shrink by the same factor each time add up
to step * rate / (1 - rate), as in Aitken's extrapolation (1926), while those of a loop that
slows down like 1 / k have no sum. The two differ in how the factor itself changes.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

WINDOWS = 8
"""The steps are averaged in so many windows."""
POWER = 3.0
"""Steps lead to a point if they would even if their rate went on changing as it does, as that of
k^-p: p must be this at least. It also is how many times a constant part, which never ends, may at
most be hidden below them."""
ENDLESS = 1.1
"""Steps have no sum if they shrink like k^-p with p of 1; a parabola gives that with this error."""
_FEWEST = 5
_ERRORS = 2.57
"""Half a 95 % interval, in standard errors, for the five windows beyond the three coefficients."""


class StepDecay(NamedTuple):
    """How steps shrink."""

    ends: Bool[Tensor, " row"]
    """Whether they lead to a point."""
    endless: Bool[Tensor, " row"]
    """Whether they shrink no faster than 1 / k, so that their sum has no limit. Of some neither is
    known."""
    rate: Float[Tensor, " row"]
    """The factor per iteration at the end."""
    low: Float[Tensor, " row"]
    """The lower end of its 95 % interval."""
    high: Float[Tensor, " row"]
    """Its upper end; below 1 where `ends`."""
    left: Float[Tensor, " row"]
    """To what the steps after the last add up if that factor stays as it is; infinite where the
    interval of the factor reaches 1."""


def step_decay(step: Float[Tensor, "iteration row"]) -> StepDecay:
    """How steps shrink, from a parabola through the logarithms of their means in WINDOWS.

    >>> decay = step_decay(0.9 ** torch.arange(40, dtype=torch.float64)[:, None])
    >>> bool(decay.ends), round(float(decay.rate), 6)
    (True, 0.9)

    Arguments:
        step: their sizes, one after the other.
    """
    length = max(1, len(step) // WINDOWS)
    count = min(WINDOWS, len(step))
    if count < _FEWEST:
        nan = torch.full_like(step[0], math.nan)
        no = torch.zeros_like(nan, dtype=torch.bool)
        return StepDecay(no, no, nan, nan, nan, torch.full_like(nan, math.inf))
    windows = step[len(step) - count * length :].unflatten(0, (count, length)).mean(1)
    y = windows.clamp(min=1e-300).log()
    u = torch.linspace(-1, 1, count, dtype=y.dtype, device=y.device)
    design = torch.stack([torch.ones_like(u), u, u.square()], 1)
    inverse = torch.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ y
    variance = (y - design @ coefficients).square().sum(0) / (count - 3)
    _, slope, bend = coefficients
    half = length * (count - 1) / 2  # iterations from the middle to the last window
    at_end = slope + 2 * bend
    error = _ERRORS * (variance * (inverse[1, 1] + 4 * inverse[2, 2])).sqrt()
    doubt = _ERRORS * (variance * inverse[2, 2]).sqrt()
    falls = (-at_end - error).clamp(min=0)
    # of k^-p the logarithm falls by p / k per iteration, and that itself changes by p / k²
    ends = (falls > 0) & (falls.square() >= POWER * 2 * (bend.abs() + doubt))
    endless = (bend > doubt) & ((-at_end + error).square() <= ENDLESS * 2 * (bend - doubt))
    rate, low, high = ((x / half).exp() for x in (at_end, at_end - error, at_end + error))
    last = windows[-1] * rate ** ((length - 1) / 2)
    left = torch.where(high < 1, last * rate / (1 - rate), math.inf)
    return StepDecay(ends, endless, rate, low, high, left)
