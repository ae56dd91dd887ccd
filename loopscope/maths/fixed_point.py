"""Fixed points of a map: x* with F(x*) = x*, found by four methods, each row of a batch for itself.

- plain: x <- F(x). Finds what the loop itself would visit, and only that: attracting points.
- damped: x <- (1 - damping) x + damping F(x). Tames negative eigenvalues: it also finds points that
  the loop circles around.
- anderson: the combination of the last few iterates with the least residual (Anderson 1965; Walker
  & Ni 2011).
- newton: x <- x - (J - I)^-1 (F(x) - x), shortened until the residual falls; finds unstable points
  and saddles too. For rows of more than DENSE numbers scipy's newton_krylov (Knoll & Keyes 2004).

A solver's fixed point need not be where the loop goes: for z -> c - z Newton and Anderson find c /
2, which iteration never does.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from .jacobian import Linearised, Map, apply, checked, rows

METHODS = ("plain", "damped", "anderson", "newton")
DENSE = 128
"""Numbers per row up to which Newton solves with the whole Jacobian, all rows at once."""
PATIENCE = 4
"""Steps in which Newton's method must halve the residual of a longer row, or is given up."""


class Ending(Enum):
    """Why a solver stopped."""

    converged = "The residual fell below the tolerance."
    most = "The residual is still above the tolerance after the most iterations allowed."
    stuck = "The residual can't be made smaller from here: the method found no way down."
    overflow = "The iterates left the numbers: NaN or infinity."


@dataclass(frozen=True)
class Solution:
    """Where a solver got to, row by row."""

    point: Float[Tensor, "..."]
    """Of the start's shape; NaN in a row that overflowed."""
    residual: Float[Tensor, " row"]
    """‖F(x) - x‖ / size, with size the larger of ‖x‖ and `scale`."""
    iterations: Int[Tensor, " row"]
    """How many it took; after an overflow, the number of the iterate that first held NaN or
    infinity."""
    converged: Bool[Tensor, " row"]
    endings: tuple[Ending, ...]
    method: str
    tolerance: float


def solve(
    map: Map,
    start: Tensor,
    method: str = "plain",
    tolerance: float | None = None,
    *,
    most: int = 1000,
    scale: float | Tensor | None = None,
    damping: float = 0.5,
    memory: int = 5,
) -> Solution:
    """Look for a fixed point from each row of `start`.

    >>> solve(torch.cos, torch.ones(1, 1, dtype=torch.float64), "newton").point
    tensor([[0.7391]], dtype=torch.float64)

    Arguments:
        map: (batch, ...) to the same shape. Where it has `only(places)`, the map for some of the
            rows, rows that are done cost nothing more.
        start: (batch, ...); a state with one axis is one row.
        method: one of METHODS.
        tolerance: of the residual; None: 10 times the precision of the numbers.
        most: iterations; those of Newton are costlier and fewer are needed.
        scale: the norm that a small residual is measured against where the point itself is smaller,
            such as at the origin; one number or one per row. None: the norm of the start and of its
            image, whichever is larger.
        damping: of "damped", in (0, 1].
        memory: of "anderson": how many iterates it combines.
    """
    if method not in METHODS:
        raise LoopscopeError(
            f"method must be a known solver, but is {method!r}. {nearest(str(method), METHODS)}"
        )
    if not 0 < damping <= 1 or memory < 1 or most < 0 or not (tolerance is None or tolerance > 0):
        raise LoopscopeError(
            "a solver needs damping in (0, 1], memory of 1 or more, most of 0 or more and a tolerance above "
            "0, but has "
            f"damping={damping}, memory={memory}, most={most}, tolerance={tolerance}."
        )
    batch, n = rows(checked(start))
    x = start.detach().clone().reshape(batch, n)
    tolerance = 10 * torch.finfo(x.dtype).eps if tolerance is None else tolerance

    f = _image(map, x, start)
    if scale is None:
        least = torch.maximum(x.norm(dim=1), torch.nan_to_num(f, 0.0, 0.0, 0.0).norm(dim=1))
    else:
        least = torch.as_tensor(scale, dtype=x.dtype, device=x.device).expand(batch)
    search = _Search(map, start, x, f, least=least, tolerance=tolerance, most=most)
    if method == "newton" and n > DENSE:
        _krylov(search)
    elif method == "newton":
        _newton(search, lambda x: Linearised(map, x.reshape(start.shape)).dense())
    else:
        _iterate(search, method, damping, memory)
    return search.solution(start, method)


class _Search:
    """The rows of a search: where each is, its image, and whether it is done."""

    def __init__(
        self, map: Map, start: Tensor, x: Tensor, f: Tensor, *, least: Tensor, tolerance: float, most: int
    ) -> None:
        self.map, self.start, self.least, self.tolerance, self.most = map, start, least, tolerance, most
        self.x, self.f = x, f
        self._places, self._part = list(range(len(x))), map
        self.used = torch.zeros(len(x), dtype=torch.int64)
        self.lost = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.stuck = torch.zeros_like(self.lost)
        self._lose(0)

    def F(self, x: Tensor) -> Tensor:
        return _image(self.map, x, self.start)

    def row(self, place: int) -> Callable[[Tensor], Tensor]:
        """F of one row, (n,) to (n,)."""
        if hasattr(self.map, "only"):
            one = self.map.only([place])
            return lambda x: _image(one, x[None], self.start)[0]
        x = self.x.clone()

        def within(row: Tensor) -> Tensor:
            x[place] = row
            return self.F(x)[place]

        return within

    def residual(self) -> Tensor:
        size = torch.maximum(self.x.norm(dim=1), self.least)
        gap = (self.f - self.x).norm(dim=1)
        return torch.where(gap == 0, gap, gap / size)

    def open(self) -> Tensor:
        """The rows that are still searching."""
        return ~(self.lost | self.stuck | (self.residual() <= self.tolerance))

    def move(self, to: Tensor, rows: Tensor, k: int) -> None:
        """Take `rows` to their new places; they are iterate number k."""
        self.x = torch.where(rows[:, None], to, self.x)
        self.f = self._images(rows)
        self.used[rows.cpu()] = k
        self._lose(k)

    def _images(self, rows: Tensor) -> Tensor:
        """F of `rows`, and what is known of the others. Rows that are done are left out where the
        map has `only`, each time that half of them are: a map for fewer rows has its own cost."""
        moved = rows.nonzero()[:, 0].tolist()
        if not moved:
            return self.f
        if not hasattr(self.map, "only") or not set(moved) <= set(self._places):
            return torch.where(rows[:, None], self.F(self.x), self.f)
        if len(moved) <= len(self._places) // 2:
            self._places = moved
            self._part = self.map.only(self._places)
        images = self.f.clone()
        images[self._places] = _image(self._part, self.x[self._places], self.start)
        return torch.where(rows[:, None], images, self.f)

    def _lose(self, k: int) -> None:
        """Park rows that overflowed where they can't spoil a shared operation."""
        gone = ~(self.x.isfinite().all(1) & self.f.isfinite().all(1)) & ~self.lost
        # x itself was finite: what overflows is its image, the next iterate
        late = gone & self.x.isfinite().all(1)
        self.used[gone.cpu()] = k
        self.used[late.cpu()] = k + 1
        self.lost |= gone
        self.x = torch.where(self.lost[:, None], torch.zeros_like(self.x), self.x)
        self.f = torch.where(self.lost[:, None], torch.zeros_like(self.f), self.f)

    def solution(self, start: Tensor, method: str) -> Solution:
        nan = torch.tensor(float("nan"), dtype=self.x.dtype, device=self.x.device)
        residual = torch.where(self.lost, nan, self.residual())
        done = residual <= self.tolerance
        endings = tuple(
            Ending.overflow if lost else Ending.converged if ok else Ending.stuck if stuck else Ending.most
            for lost, ok, stuck in zip(self.lost.tolist(), done.tolist(), self.stuck.tolist(), strict=True)
        )
        point = torch.where(self.lost[:, None], nan, self.x).reshape(start.shape)
        return Solution(point, residual.double(), self.used, done, endings, method, self.tolerance)


def _image(map: Map, x: Tensor, start: Tensor) -> Tensor:
    """F of flat rows (row, n), in the shape that the map knows from `start`."""
    with torch.no_grad():
        shape = start.shape if x.numel() == start.numel() else (len(x), *start.shape[1:])
        return apply(map, x.reshape(shape)).reshape(x.shape)


def _iterate(search: _Search, method: str, damping: float, memory: int) -> None:
    """plain, damped and anderson."""
    history: list[tuple[Tensor, Tensor]] = []
    for k in range(1, search.most + 1):
        rows = search.open()
        if not rows.any():
            return
        if method == "anderson":
            history = [*history, (search.x, search.f)][-memory:]
            to = _mixed(history)
        else:
            to = search.f if method == "plain" else torch.lerp(search.x, search.f, damping)
        search.move(to, rows, k)


def _mixed(history: list[tuple[Tensor, Tensor]]) -> Tensor:
    """sum_i a_i F(x_i) with the weights, summing to one, whose residual sum_i a_i (F(x_i) - x_i) is
    least."""
    images = torch.stack([f for _, f in history], 1).double()
    gaps = images - torch.stack([x for x, _ in history], 1).double()
    # weights don't depend on the gaps' unit, and the square of a large one would be infinite
    gaps = torch.nan_to_num(gaps / gaps.abs().amax((1, 2), keepdim=True).clamp(min=1e-300))
    if len(history) == 1:
        return images[:, 0].to(history[0][0].dtype)
    differences = gaps[:, :-1] - gaps[:, -1:]  # (row, memory - 1, n)
    gram = differences @ differences.mT
    ridge = 1e-14 * gram.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-300)[:, None, None]
    # of differences that are all zero any weights will do; eigh's small eigenvalues are cut, as two
    # iterates may be one
    values, vectors = torch.linalg.eigh(
        gram + ridge * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    )
    against = vectors.mT @ (differences @ -gaps[:, -1:].mT)
    cut = values[..., None] > 1e-12 * values.amax(1)[:, None, None]
    weights = vectors @ torch.where(cut, against / values[..., None], 0)
    mixed = images[:, -1] + (weights.mT @ (images[:, :-1] - images[:, -1:]))[:, 0]
    return mixed.to(history[0][0].dtype)


def _newton(search: _Search, jacobian: Callable[[Tensor], Tensor]) -> None:
    """Newton's iterates of all rows at once, each shortened by halves until its residual falls."""
    n = search.x.shape[1]
    eye = torch.eye(n, dtype=torch.float64, device=search.x.device)
    for k in range(1, search.most + 1):
        rows = search.open()
        if not rows.any():
            return
        gap = (search.f - search.x).double()
        A = torch.nan_to_num(eye - jacobian(search.x).double(), 0.0, 0.0, 0.0)
        # least squares, as a singular system still has a best direction
        move = torch.linalg.lstsq(A.cpu(), gap[..., None].cpu(), driver="gelsd").solution[..., 0].to(search.x)
        x, before, length = search.x, gap.norm(dim=1).to(search.x.dtype), 1.0
        left = rows.clone()
        best, taken = x, torch.zeros_like(rows)
        while left.any() and length > 1e-3:
            trial = torch.where(left[:, None], x + length * move, best)
            after = (search.F(trial) - trial).norm(dim=1)
            good = left & (after <= (1 - 1e-3 * length) * before)
            best = torch.where(good[:, None], trial, best)
            taken, left, length = taken | good, left & ~good, length / 2
        search.stuck |= left
        search.move(best, taken, k)


def _krylov(search: _Search) -> None:
    """scipy's newton_krylov, one row at a time; the others stand still meanwhile."""
    from scipy.optimize import NoConvergence, newton_krylov

    base, eps = search.x.clone(), torch.finfo(search.x.dtype).eps
    for b in search.open().nonzero()[:, 0].tolist():
        calls, F = 0, search.row(b)

        def gap(v: np.ndarray, F: Callable[[Tensor], Tensor] = F) -> np.ndarray:
            nonlocal calls
            calls += 1
            x = torch.from_numpy(v)
            return (F(x.to(base)).double().cpu() - x).numpy()

        gaps: list[float] = []

        def watch(v: np.ndarray, f: np.ndarray, gaps: list[float] = gaps) -> None:
            gaps.append(float(np.linalg.norm(f)))
            if len(gaps) > PATIENCE and not gaps[-1] < gaps[-1 - PATIENCE] / 2:
                raise NoConvergence(v)  # Newton's method near a point would have done far better

        size = float(max(base[b].norm(), search.least[b])) or 1.0
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                result = newton_krylov(
                    gap,
                    base[b].double().cpu().numpy(),
                    f_tol=search.tolerance * size / 2,
                    maxiter=min(search.most, 100),
                    rdiff=eps**0.5,
                    tol_norm=np.linalg.norm,
                    callback=watch,
                )
            except NoConvergence as error:
                result = np.asarray(error.args[0])
                search.stuck[b] = True
            except (ValueError, np.linalg.LinAlgError):  # NaN or infinity on the way
                result = np.full(search.x.shape[1], np.nan)
        to = search.x.clone()
        to[b] = torch.from_numpy(result).to(to)
        rows = torch.zeros_like(search.lost)
        rows[b] = True
        search.move(to, rows, calls)
        search.stuck[b] &= bool(search.residual()[b] > search.tolerance)


def cluster(points: Float[Tensor, "point width"], distance: float) -> Int[Tensor, " point"]:
    """Which points are one: numbers 0, 1, 2 ... in order of first appearance; -1 for a point that
    holds NaN.

    Single linkage: two points are one when a chain of points joins them whose links are shorter
    than `distance`.
    """
    from scipy.sparse.csgraph import connected_components

    known = points.isfinite().all(1)
    labels = torch.full((len(points),), -1, dtype=torch.int64)
    if known.any():
        kept = points[known].double()
        near = torch.cdist(kept, kept, compute_mode="donot_use_mm_for_euclid_dist") <= distance
        _, own = connected_components(near.cpu().numpy(), directed=False)
        labels[known.cpu()] = torch.from_numpy(own).long()  # scipy numbers them in order of appearance
    return labels
