"""The smallest number of iterations after which a trajectory returns: the misfit of every lag, the
turns of an orbit, and whether its returns drift."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MAX_DRIFT = 2.5
"""A return whose mean square misfit grows by this factor over many periods is no return."""
MIN_GAIN = 0.2
"""A more detailed description of an orbit must leave at most this fraction of what the simpler one
leaves."""
SINGLE_RETURN = 1e-4
"""The largest misfit of a return that is observed only once."""


def whole_period(
    x: Float[Tensor, "row iteration width"], variance: Float[Tensor, " row"], floor: Float[Tensor, " row"]
) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"], Float[Tensor, " row"]]:
    """(p, e(p), j): the smallest whole period that returns as well as any other, or 0, its misfit,
    and the turns that it makes.

    Arguments:
        x: about its mean.
        variance: of x.
        floor: the misfit that rounding alone gives.
    """
    rows, m, _ = x.shape
    most = m // 2
    misfit = lag_misfits(x, variance, most)
    away = misfit.cummax(1).values[:, :-1]  # how far it goes before it returns
    misfit = misfit[:, 1:]
    least = misfit.min(1).values
    good = (misfit <= 2 * least[:, None] + floor[:, None]) & (misfit < 0.5) & (misfit < MIN_GAIN * away)
    once = 2 + torch.arange(misfit.shape[1], device=x.device) > m // 3
    good &= ~once | (misfit < SINGLE_RETURN)
    p = torch.where(good.any(1), good.int().argmax(1) + 2, 0)
    best = misfit.gather(1, (p - 2).clamp(min=0)[:, None])[:, 0]
    j = torch.ones_like(p)
    for value in p.unique().tolist():
        if value > 3:
            rows_p = p == value
            j[rows_p] = _turns(x[rows_p], value)
    return p.to(x.dtype), torch.where(p > 0, best, math.inf), j.to(x.dtype)


def lag_misfits(x: Tensor, variance: Tensor, most: int) -> Float[Tensor, "row lag"]:
    """e(p) = mean ‖x_(k+p) - x_k‖² / 2 Var x for p = 1..most."""
    m = x.shape[1]
    spectrum = torch.fft.rfft(x, n=m + most, dim=1).abs().square().sum(2)
    product = torch.fft.irfft(spectrum, n=m + most, dim=1)[:, 1 : most + 1]  # sum of x_k x_(k+p)
    square = x.square().sum(2).cumsum(1)
    count = m - torch.arange(1, most + 1, device=x.device)
    ends = square[:, count - 1] + square[:, -1:] - square[:, :most]
    return ((ends - 2 * product) / count).clamp(min=0) / (2 * variance[:, None])


def _turns(x: Tensor, p: int) -> Int[Tensor, " row"]:
    """How many turns an orbit of period p makes before it closes: the strongest harmonic that is
    prime to p."""
    m = x.shape[1] // p * p
    power = torch.fft.rfft(x[:, -m:].unflatten(1, (-1, p)).mean(1), dim=1).abs().square().sum(2)
    prime = [j for j in range(1, p // 2 + 1) if math.gcd(j, p) == 1]
    primes_power = power[:, prime]
    strongest = torch.tensor(prime, device=x.device)[primes_power.argmax(1)]
    present = primes_power.max(1).values > 1e-6 * power[:, 1:].sum(1)
    return torch.where(present, strongest, 1)


def returns_drift(x: Tensor, p: Tensor, misfit: Tensor, floor: Tensor) -> Bool[Tensor, " row"]:
    """Whether x_(k+jp) is farther from x_k than x_(k+p). With noise alone the misfit after j
    periods is that after one."""
    rows, m, _ = x.shape
    far = torch.zeros_like(misfit)
    for value in p.int().unique().tolist():
        times = (3 * m // 4) // value if value else 0
        if times < 2:
            continue
        rows_p = p == value
        y = x[rows_p]
        lag = times * value
        far[rows_p] = (y[:, lag:] - y[:, :-lag]).square().sum(2).mean(1) / (2 * y.square().sum(2).mean(1))
    return far > MAX_DRIFT * misfit + floor
