"""Facts: what is true of an example and may be looked for in a state, such as what a reckoner must
know on the way."""

from dataclasses import dataclass

from jaxtyping import Bool, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Fact:
    """One fact, of each example or of each of its positions."""

    values: Shaped[Tensor, " batch *position"]
    """Whole numbers for classes, real numbers for quantities."""
    mask: Bool[Tensor, " batch *position"]
    """Where it holds: elsewhere there is no such thing, or it stands written, or it is the answer
    itself."""
    about: str
    """What it is, as a phrase."""
    given: bool = False
    """Whether it stands in the input."""
    on_the_way: bool = False
    """Whether it is neither given nor the answer, but a step from one to the other."""
