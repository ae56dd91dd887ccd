"""The part of a path that a figure shows where it grows without bound."""

from jaxtyping import Float
from torch import Tensor

GROWTH = 100.0
"""A growing path is drawn to where it is this many first steps from its start."""
GROWTH_SENTENCE = (
    f"A path that grows without bound is drawn to where it is {GROWTH:g} times its first step from its start."
)


def drawn_path(states: Float[Tensor, "state plane"], grows: bool) -> Float[Tensor, "drawn plane"]:
    """The first states of a path that grows without bound, all of another.

    The last states of a growing path are so large that all others would be a single point of the
    figure, and from where it overflows it has none.

    >>> drawn_path(torch.tensor([[0.0], [1.0], [50.0], [1e19]]), grows=True).flatten().tolist()
    [0.0, 1.0, 50.0]

    Arguments:
        states: from the start on.
        grows: whether the path grows without bound.
    """
    if not grows or len(states) < 2:
        return states
    away = (states - states[0]).double().norm(dim=-1)
    beyond = (~(away <= GROWTH * away[1])).nonzero()  # NaN too
    return states[: int(beyond[0])] if len(beyond) else states
