"""The leading eigenvalue of a Jacobian with a bound of its error, as exactly as a decision needs.

From a right vector alone an eigenvalue is known to its condition number times the residual, and the
condition number isn't known: in a map far from normal it may be a million. With a left vector too,
the value y* J x / y* x is an eigenvalue of a matrix that differs from J by the larger of the two
residuals, and 1 / |y* x| is its condition number there (Kahan, Parlett & Jiang 1982, "Residual
bounds on approximate eigensystems of nonnormal matrices"). Their product bounds the error, to first
order.

Where many eigenvalues crowd at the edge no vector is found. Then the norm of a power bounds them
all: the radius is at most ‖J^m‖^(1/m). After k steps of Lanczos' method from a random vector the
square of a norm is more than 1 / (1 - e) times what was met with a probability of at most
1.648 sqrt(n) exp(-(2 k - 1) sqrt(e)) (Kuczyński & Woźniakowski 1992, "Estimating the largest
eigenvalue by the power and Lanczos algorithms with a random start").

What neither bounds from below is an eigenvalue that both searches have missed.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .bidiagonal import bidiagonal_search
from .linear_operator import sparse

VECTORS, MANY = 30, 120
"""Kept at a time by a search; and by one of many crowded values, which isn't to their digits."""
FIRST = 3e-4
"""Tolerance of the first two searches; later ones have the one that decides."""
ANY = 1.0
"""With which the best value of the first round is taken, of a crowded spectrum."""
STEPS, CHANCE = 20, 1e-3
"""Of the search for a norm, each with two products; and how probable it may be that the norm is
larger than its bound."""
NORMS = 2 * STEPS
"""Products that a norm takes."""


class Line(NamedTuple):
    """What must be known of a modulus: on which side of `at` it is by more than `margin`, or that
    it is nearer than that."""

    at: float
    margin: float

    def decides(self, modulus: float, error: float) -> bool:
        """Whether it is known."""
        away = abs(modulus - self.at)
        return away - error > self.margin or away + error <= self.margin

    def needed(self, modulus: float) -> float:
        """With which error it would be."""
        return abs(abs(modulus - self.at) - self.margin)


class Bounded(NamedTuple):
    """An eigenvalue, and what is known of it."""

    value: complex
    """NaN where none was found."""
    error: float
    """At most, but for a chance of CHANCE where norms bound it; infinity where no bound is
    known."""
    how: str
    """How both were found, as a sentence."""


class _Pair(NamedTuple):
    """An eigenvalue with its vectors."""

    value: complex
    error: float
    condition: float
    residual: float
    """The larger of both vectors'."""
    right: np.ndarray
    left: np.ndarray


class CountedOperator:
    """An operator whose products, with itself and its transpose, are counted."""

    def __init__(self, J: Any) -> None:
        self.count = 0
        self.plain = self._operator(J, J.matvec, J.rmatvec)
        self.transposed = self._operator(J, J.rmatvec, J.matvec)

    def _operator(self, J: Any, matvec: Any, rmatvec: Any) -> Any:
        def counted(times: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
            def product(v: np.ndarray) -> np.ndarray:
                self.count += 1
                return times(v)

            return product

        return sparse().LinearOperator(
            J.shape, matvec=counted(matvec), rmatvec=counted(rmatvec), dtype=np.float64
        )


def bounded_eigenvalue(
    J: CountedOperator,
    start: np.ndarray,
    line: Line,
    *,
    eps: float,
    size: float,
    products: int,
    rights: tuple[np.ndarray, np.ndarray] | None = None,
) -> Bounded:
    """The leading eigenvalue of an operator, as exactly as the line needs and so many products
    allow.

    Arguments:
        start: of the searches.
        rights: leading values and their vectors, where they are known to FIRST.
        eps: the precision of its entries.
        size: about its norm.
        products: with it and its transpose, those included that it has counted; at most, about.
    """
    pair, tolerance = None, FIRST
    while rights is not None or J.count + 3 * VECTORS <= products:
        third = (products - J.count) // 3
        if rights is None:
            rights = search(J.plain, start if pair is None else _real(pair.right), 1, tolerance, third)
        if rights is None:
            break
        # of a normal matrix both vectors are the same
        second = _real(rights[1][:, 0] if pair is None else pair.left)
        lefts = search(J.transposed, second, 1, tolerance, third)
        if lefts is None:
            break
        new = _pair(J, rights, lefts, tolerance, eps * size)
        pair = new if pair is None or new.error < pair.error else pair
        if line.decides(abs(pair.value), pair.error) or not math.isfinite(new.error):
            break
        goal = new.residual / abs(new.value) * line.needed(abs(new.value)) / (3 * new.error)
        if not 10 * eps < goal < tolerance / 3:
            break
        tolerance, rights = goal, None
    if pair is not None and line.decides(abs(pair.value), pair.error):
        return Bounded(
            pair.value,
            pair.error,
            f"By ARPACK from both sides, residual at most {pair.residual:.2g}, condition number "
            f"{pair.condition:.2g}.",
        )
    return _by_norms(J, start, pair, line, products)


def _pair(
    J: CountedOperator,
    rights: tuple[np.ndarray, np.ndarray],
    lefts: tuple[np.ndarray, np.ndarray],
    tolerance: float,
    noise: float,
) -> _Pair:
    """The leading eigenvalue, from what the searches from both sides have found to this tolerance.

    Arguments:
        noise: rounding of a product.
    """
    value, x, y = rights[0][0], rights[1][:, 0], lefts[1][:, 0]
    y = y.conj() if lefts[0][0].imag * value.imag < 0 else y  # y^T J = value y^T
    product = complex(y @ x)
    condition = 1 / max(abs(product), 1e-300)
    Jx, yJ = _times(J.plain, x), _times(J.transposed, y)
    value = complex(y @ Jx) / product if product else complex(value)
    residual = max(float(np.linalg.norm(Jx - value * x)), float(np.linalg.norm(yJ - value * y)))
    error = condition * (residual + noise)
    # a larger one that only one search has met may be the leading one
    beyond = float(max(abs(lefts[0][0]), abs(rights[0][0]))) - abs(value)
    error = max(error, beyond) if beyond > 10 * tolerance * abs(value) else error
    return _Pair(value, error, condition, residual, x, y)


def _by_norms(
    J: CountedOperator, start: np.ndarray, pair: _Pair | None, line: Line, products: int
) -> Bounded:
    """The value as far as it is known, with a bound of all moduli by the norms of powers."""
    value, error = (math.nan, math.inf) if pair is None else (pair.value, pair.error)
    if pair is None:
        # one round gives a value, however far it is from being found
        taken = min(MANY, max(VECTORS, products - J.count - NORMS))
        rough = search(J.plain, start, 1, ANY, taken, taken)
        value = value if rough is None else complex(rough[0][0])
    bound, power = math.inf, 1
    while power == 1 or products - J.count > NORMS * power:
        bound = min(bound, _norm_bound(_power(J, power), start) ** (1 / power))
        if bound < line.at - line.margin:
            break
        power *= 2
    least = max(0.0, abs(value) - error) if math.isfinite(error) else 0.0
    if least <= bound < line.at - line.margin:
        # of the value of a first round nothing is known, so all up to the bound is possible
        middle = (least + bound) / 2
        value = complex(middle) if value != value or not value else value / abs(value) * middle
        how = f"The norm of J^{power} bounds the radius by {bound:.4g}; it is {least:.4g} at least."
        return Bounded(complex(value), (bound - least) / 2, how)
    how = (
        "ARPACK found no vectors of the leading eigenvalue: many lie too close together to be told apart."
        if pair is None
        else f"By ARPACK from both sides, condition number {pair.condition:.2g}: the error of the leading "
        f"eigenvalue is no smaller than {error:.2g} after {J.count} products."
    )
    return Bounded(complex(value), error, how)


def _norm_bound(operator: Any, start: np.ndarray) -> float:
    """What the norm exceeds with a probability of CHANCE at most; infinity if it isn't finite.

    Arguments:
        start: a random vector, of a normal distribution.
    """
    steps = min(STEPS, len(start))
    norm = bidiagonal_search(operator, start, 0.0, steps).value
    part = math.log(1.648 * math.sqrt(len(start)) / CHANCE) / (2 * steps - 1)
    return norm / math.sqrt(1 - part**2) if part < 1 and math.isfinite(norm) else math.inf


def _power(J: CountedOperator, power: int) -> Any:
    """An operator applied so many times."""

    def times(product: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        def repeated(v: np.ndarray) -> np.ndarray:
            for _ in range(power):
                v = product(v)
            return v

        return repeated

    shape = J.plain.shape
    return sparse().LinearOperator(
        shape, matvec=times(J.plain.matvec), rmatvec=times(J.plain.rmatvec), dtype=np.float64
    )


def search(
    operator: Any, start: np.ndarray, count: int, tolerance: float, products: int, vectors: int = VECTORS
) -> tuple[np.ndarray, np.ndarray] | None:
    """(values, unit vectors) by falling modulus, of several those that were found; None where
    ARPACK finds none in so many products.

    Arguments:
        count: how many.
        vectors: kept at a time.
    """
    kept = min(len(start), max(vectors, 2 * count + 8))
    if products < kept:
        return None
    try:
        values, vectors_met = sparse().eigs(
            operator,
            k=min(count, len(start) - 2),
            v0=start,
            tol=tolerance,
            ncv=kept,
            maxiter=max(1, (products - count) // max(1, kept - count)),
        )
    except sparse().ArpackNoConvergence as error:
        values, vectors_met = error.eigenvalues, error.eigenvectors
    except sparse().ArpackError:
        return None
    if not len(values):
        return None
    order = np.argsort(-np.abs(values), kind="stable")
    return values[order], vectors_met[:, order] / np.linalg.norm(vectors_met[:, order], axis=0)


def _times(operator: Any, v: Any) -> np.ndarray:
    """A product with a complex vector."""
    return operator.matvec(v.real.copy()) + (1j * operator.matvec(v.imag.copy()) if v.imag.any() else 0)


def _real(v: Any) -> np.ndarray:
    """A real vector with parts of both halves of a complex pair."""
    return np.ascontiguousarray(v.real + v.imag)
