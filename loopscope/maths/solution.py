"""Solution: where a fixed-point solver got to, row by row, and why it stopped."""

from dataclasses import dataclass
from enum import Enum

from jaxtyping import Bool, Float, Int
from torch import Tensor


class Ending(Enum):
    """Why a solver stopped."""

    converged = "The residual fell below the tolerance."
    out_of_iterations = "The residual is still above the tolerance after the most iterations allowed."
    stuck = "The residual can't be made smaller from here: the method found no way down."
    overflow = "The iterates hold NaN or infinity."


@dataclass(frozen=True)
class Solution:
    """Where a solver got to, row by row."""

    point: Float[Tensor, "..."]
    """Of the start's shape; NaN in a row that overflowed."""
    residual: Float[Tensor, " row"]
    """‖F(x) - x‖ / size, with size the larger of ‖x‖ and `scale`."""
    iterations: Int[Tensor, " row"]
    """Iterations that were used; after an overflow, the number of the iterate that first held NaN
    or infinity."""
    converged: Bool[Tensor, " row"]
    """Whether the residual is at or below the tolerance."""
    endings: tuple[Ending, ...]
    """Why each row's search stopped."""
    method: str
    """The solver, a `loopscope.maths.fixed_point.Method`."""
    tolerance: float
    """Of the residual."""
