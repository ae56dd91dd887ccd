"""Facts: what is true of an example and may be decoded from a state, such as an intermediate
result."""

from dataclasses import dataclass

from jaxtyping import Bool, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Fact:
    """One fact, of each example or of each of its positions."""

    values: Shaped[Tensor, " batch *position"]
    """Integers for classes, real numbers for quantities."""
    mask: Bool[Tensor, " batch *position"]
    """Where it is defined and neither written in the input nor the answer itself."""
    description: str
    """What it is, as a noun phrase."""
    in_input: bool = False
    """Whether it can be read from the input."""
    is_intermediate: bool = False
    """Whether it is an intermediate result: neither in the input nor the answer."""
