"""Update rules of a repeated window of layers: the next state from the state x and F(x), what the
window makes of it.

plain      x <- F(x)                 the window again and again
damped     x <- x + (F(x) - x) / K   K sub-steps of 1/K in place of one whole step
anchored   as damped; the layers after the window read half F(x_0) and half x

They are those of training-free looping (Chen et al. 2026, arXiv 2605.23872). A layer with its norms
before the sub-layers adds to the residual stream, as a step of Euler's method does, and K damped
sub-steps go as far as one step. A rule of one's own is an `UpdateRule` of two functions.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..common.errors import LoopscopeError, nearest


def plain(x: Tensor, image: Tensor, repeat: int) -> Tensor:
    """F(x)."""
    return image


def damped(x: Tensor, image: Tensor, repeat: int) -> Tensor:
    """x + (F(x) - x) / K."""
    return x + (image - x) / repeat


def last_state(x: Tensor, once: Tensor) -> Tensor:
    """The state as it is."""
    return x


def half_of_each(x: Tensor, once: Tensor) -> Tensor:
    """Half of what the model itself would read, half of the state."""
    return 0.5 * once + 0.5 * x


@dataclass(frozen=True)
class UpdateRule:
    """What a repeated window makes of its state.

    >>> half = UpdateRule(lambda x, image, repeat: x + (image - x) / 2)
    >>> looped = ls.wrap(model, body="layers.2:5", repeat=4, update=half)
    """

    following: Callable[[Tensor, Tensor, int], Tensor] = plain
    """The next state from x and F(x), both (batch, position, width), and the number of repeats."""
    read: Callable[[Tensor, Tensor], Tensor] = last_state
    """What the layers after the window read, from the state and from F(x_0)."""


RULES = {
    "plain": UpdateRule(),
    "damped": UpdateRule(damped),
    "anchored": UpdateRule(damped, half_of_each),
}
"""The published rules by name."""


def update_rule(update: str | UpdateRule | None) -> UpdateRule:
    """The rule of this name; None: plain.

    Raises:
        LoopscopeError: there is no rule of this name.
    """
    if isinstance(update, UpdateRule):
        return update
    name = "plain" if update is None else update
    if name not in RULES:
        raise LoopscopeError(
            f"update must be one of {', '.join(RULES)}, or an UpdateRule, but is {name!r}. "
            f"{nearest(name, RULES)}"
        )
    return RULES[name]
