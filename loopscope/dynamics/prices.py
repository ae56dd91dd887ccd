"""What the map of a run's examples costs: its limit, its Jacobians, its solvers, in iterations of
one row each (`loopscope.common.price`). Counted, on loops that converge and loops that don't."""

from ..maths.fixed_point import DENSE
from ..maths.spectrum import TRIANGULAR
from ..runs.run import Run

PRODUCT = 2
"""A product with the Jacobian costs as much as so many iterations."""
ANDERSON = 25
"""Iterations of Anderson's search, where it finds what it looks for ..."""
NEWTON = 2
"""... and of Newton's with the whole Jacobian, near a fixed point."""
PRODUCTS = 75
"""Products by which the leading eigenvalues of a long row are found, from both sides."""


def limit_cost(run: Run, rows: int, extra: int, numbers: int) -> float:
    """Of a limit, its fixed points included; nothing where the run remembers it.

    Arguments:
        numbers: of the state of one row.
    """
    if _is_remembered(run, rows, extra):
        return 0.0
    search = (NEWTON + 1) * numbers * PRODUCT if numbers <= DENSE else ANDERSON
    return rows * (run.iterations + extra + search)


def spectra_cost(run: Run, rows: int, numbers: int, count: int = 1) -> float:
    """Of the leading eigenvalues at the points of some rows; nothing where an analysis of the run
    has found as many of them."""
    if _is_remembered(run, rows) and (count == 1 or numbers <= TRIANGULAR):
        return 0.0
    return rows * PRODUCT * (numbers if numbers <= TRIANGULAR else PRODUCTS)


def _is_remembered(run: Run, rows: int, extra: int | None = None) -> bool:
    """Whether the limit of so many rows is remembered; None: with any number of iterations beyond
    the run."""
    limits = [question for question in run.memory.questions if question[0] == "limit"]
    return any(len(of) == rows and extra in (None, reach) for _, of, reach, _ in limits if of is not None)
