"""Sinusoids fitted to trajectories by least squares, many trajectories at once.

The model is x_k = c + sum_f (a_f cos w_f k + b_f sin w_f k), with vectors c, a_f, b_f over the
width and frequencies w_f that are whole-number combinations of a few free angles. The amplitudes
are solved for in closed form and the angles by Gauss-Newton on the residual (variable projection,
Golub & Pereyra 1973). Unlike the peak of a spectrum this has no bias: of a pure rotation it finds
the angle to the precision of the numbers, also when less than one turn is observed.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

PADDING = 8
"""Points of the spectrum per turn."""


class SinusoidFit(NamedTuple):
    """Sinusoids fitted to trajectories."""

    angles: Float[Tensor, "row angle"]
    """The free angles, radians per iteration."""
    unexplained: Float[Tensor, " row"]
    """Fraction of the variance that the sinusoids leave, 0..1."""
    error: Float[Tensor, "row angle"]
    """Standard error of each angle under white noise, radians per iteration."""
    rate: Float[Tensor, " row"]
    """Growth of the logarithm of the amplitude per iteration; 0 unless it was fitted."""
    rate_error: Float[Tensor, " row"]
    """Its standard error under white noise."""


def spectral_peak(x: Float[Tensor, "row iteration width"], turns: float = 1.0) -> Float[Tensor, " row"]:
    """The angle per iteration at which the power spectrum, summed over the width, is largest, from
    `turns` per window on."""
    m = x.shape[1]
    power = torch.fft.rfft(x, n=PADDING * m, dim=1).abs().square().sum(2)
    power[:, : math.ceil(PADDING * turns)] = -1
    return power.argmax(1).to(x.dtype) * (2 * math.pi / (PADDING * m))


def fit_sinusoids(
    x: Float[Tensor, "row iteration width"],
    angles: Float[Tensor, "row angle"],
    orders: Float[Tensor, "tone angle"],
    rounds: int = 5,
    *,
    damped: bool = False,
    slow: Bool[Tensor, " row"] | None = None,
) -> SinusoidFit:
    """Fit sinusoids of the frequencies `orders @ angles`, with the angles that leave the least
    residual.

    Arguments:
        angles: one or two, to begin from, within about half a turn per window of the truth.
        orders: the whole-number combinations of the angles, such as [[1], [2], [3]] for an angle
            and its harmonics. A sinusoid that, folded at pi, equals an earlier one is left out.
        rounds: steps of Gauss-Newton; 0 only evaluates.
        slow: rows whose sinusoids may, folded at pi, be slower than one turn per window. Such a
            sinusoid can fit a drift.
        damped: whether all amplitudes grow or shrink exponentially together, at a rate that is
            fitted too; with one angle.
    """
    _, m, width = x.shape
    k = torch.arange(m, dtype=x.dtype, device=x.device) - (m - 1) / 2
    x = x - x.mean(1, keepdim=True)
    tiny = torch.finfo(x.dtype).tiny
    total = x.square().sum((1, 2)).clamp(min=tiny)
    kept = _distinct(angles @ orders.T, m, slow)
    count = angles.shape[1]
    best = torch.cat([angles, torch.zeros_like(angles[:, :1])], dim=1) if damped else angles
    least, error, tried = torch.full_like(total, math.inf), torch.full_like(best, math.inf), best
    for _ in range(rounds + 1):
        phase = k[:, None] * (tried[:, :count] @ orders.T)[:, None]
        envelope = (tried[:, count:, None] * k).exp().mT if damped else 1
        cosine, sine = phase.cos() * kept[:, None] * envelope, phase.sin() * kept[:, None] * envelope
        basis, mix = _orthonormal(cosine, sine)
        inside = basis.mT @ x
        rest = x - basis @ inside
        square = rest.square().sum((1, 2))
        better = (square / total < least) & square.isfinite()
        least = torch.where(better, square / total, least)
        best = torch.where(better[:, None], tried, best)
        a, b = (mix @ inside)[:, 1:].chunk(2, dim=1)
        slopes = [k[:, None] * ((cosine * by) @ b - (sine * by) @ a) for by in orders.T]
        if damped:
            slopes.append(k[:, None] * (cosine @ a + sine @ b))
        slopes = [(slope - basis @ (basis.mT @ slope)).flatten(1) for slope in slopes]
        inverse, step = _newton(torch.stack(slopes, dim=1), rest.flatten(1), tiny)
        spread = (square / (m * width))[:, None] * inverse
        error = torch.where(better[:, None], spread.sqrt(), error)
        limit = math.pi / (2 * m)
        moved = tried + step.nan_to_num().clamp(-limit, limit)
        tried = torch.where(
            better[:, None], moved, (best + tried) / 2
        )  # a step that made things worse is halved
    zero = torch.zeros_like(least)
    rate, rate_error = (best[:, -1], error[:, -1]) if damped else (zero, zero)
    return SinusoidFit(best[:, :count], least.clamp(max=1.0), error[:, :count], rate, rate_error)


def _newton(slopes: Tensor, rest: Tensor, tiny: float) -> tuple[Tensor, Tensor]:
    """(diagonal of the inverse normal matrix, step) of least squares for one or two angles."""
    normal = slopes @ slopes.mT
    right = (slopes @ rest[..., None])[..., 0]
    if normal.shape[-1] == 1:
        inverse = 1 / normal[..., 0].clamp(min=tiny)
        return inverse, right * inverse
    a, b, d = normal[:, 0, 0], normal[:, 0, 1], normal[:, 1, 1]
    ridge = 1e-9 * torch.maximum(a, d)  # at pi an angle has no slope, and must not stop the other
    a, d = a + ridge, d + ridge
    determinant = (a * d - b * b).clamp(min=tiny)
    step = torch.stack([d * right[:, 0] - b * right[:, 1], a * right[:, 1] - b * right[:, 0]], dim=1)
    return torch.stack([d, a], dim=1) / determinant[:, None], step / determinant[:, None]


def _orthonormal(cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """(Q, T): an orthonormal basis Q = [1, cosine, sine] T; columns that add nothing become
    zero."""
    raw = torch.cat([torch.ones_like(cosine[..., :1]), cosine, sine], dim=-1)
    return _factored(raw, raw.square().sum(1) <= 1e-14 * raw.shape[1])


def _factored(raw: Tensor, empty: Bool[Tensor, "row column"]) -> tuple[Tensor, Tensor]:
    """By QR. The columns that are `empty` get a row of their own below, where they touch no
    other."""
    m, count = raw.shape[1:]
    below = torch.diag_embed(empty.to(raw.dtype))
    q, r = torch.linalg.qr(torch.cat([raw.masked_fill(empty[:, None], 0), below], dim=1))
    eye = torch.eye(count, dtype=raw.dtype, device=raw.device)
    diagonal = r.diagonal(dim1=1, dim2=2).abs()
    small = ~(diagonal > 1e-7 * math.sqrt(m)) & ~empty
    mix = torch.linalg.solve_triangular(
        r.masked_fill((eye > 0) & (diagonal == 0)[:, None], 1), eye, upper=True
    )
    basis, mix = q[:, :m].masked_fill(empty[:, None], 0), mix.masked_fill(empty[:, None], 0)
    rows = small.any(1).nonzero()[:, 0]
    if len(rows):  # the first column that adds nothing spoils those after it
        first = small[rows] & (small[rows].cumsum(1) == 1)
        basis[rows], mix[rows] = _factored(raw[rows], empty[rows] | first)
    return basis, mix


def _distinct(
    frequencies: Float[Tensor, "row tone"], m: int, slow: Bool[Tensor, " row"] | None
) -> Float[Tensor, "row tone"]:
    """1 for sinusoids that differ from every earlier one by half a turn per window at least and are
    not slower than allowed."""
    folded = frequencies.remainder(2 * math.pi)
    folded = torch.minimum(folded, 2 * math.pi - folded)
    kept = torch.ones_like(folded)
    for tone in range(1, folded.shape[1]):
        close = (folded[:, :tone] - folded[:, tone : tone + 1]).abs() < math.pi / m
        distinct = ~(close & (kept[:, :tone] > 0)).any(1)
        if slow is not None:
            distinct &= slow | (folded[:, tone] > 1.9 * math.pi / m)
        kept[:, tone] = distinct.to(folded.dtype)
    return kept


def sinusoid_residual(
    x: Float[Tensor, "row iteration width"],
    angles: Float[Tensor, "row angle"],
    orders: Float[Tensor, "tone angle"],
) -> Float[Tensor, "row iteration width"]:
    """What the sinusoids leave of each trajectory; see `fit_sinusoids`."""
    basis = _basis(x, angles, orders)
    x = x - x.mean(1, keepdim=True)
    return x - basis @ (basis.mT @ x)


def _basis(x: Tensor, angles: Tensor, orders: Tensor) -> Tensor:
    k = torch.arange(x.shape[1], dtype=x.dtype, device=x.device) - (x.shape[1] - 1) / 2
    phase = k[:, None] * (angles @ orders.T)[:, None]
    return _orthonormal(phase.cos(), phase.sin())[0]
