"""ACTState: the state of a loop with adaptive computation time (Graves 2016, arXiv 1603.08983)."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class ACTState(NamedTuple):
    """The state of a loop with ACT. `h` is still updated, and read by other positions, after its
    position has halted."""

    h: Float[Tensor, "batch position width"]
    output: Float[Tensor, "batch position width"]
    """What the read-out reads; constant once the position has halted."""
    mass: Float[Tensor, "batch position"]
    """The sum of halting probabilities so far, 0..1; exactly 1 once halted. Its differences are the
    weights u, with which Graves sums the outputs."""
    remainder: Float[Tensor, "batch position"]
    """R: the weight of the last iteration; before halting, its weight if the loop ended with
    it."""
    count: Float[Tensor, "batch position"]
    """N: the number of iterations so far, including the one that halts."""
