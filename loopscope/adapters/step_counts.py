"""The numbers of iterations that Huginn and its kin take: one, or those without and with
gradients."""

from typing import Any

from ..common.errors import LoopscopeError


def step_counts(steps: Any, name: str) -> tuple[int, ...]:
    """The numbers of iterations in such an input.

    Arguments:
        steps: a number, or a list or tensor of one or two.
        name: of the input, for the text.

    Raises:
        LoopscopeError: it is something else.
    """
    parts = steps if hasattr(steps, "__len__") and getattr(steps, "ndim", 1) else [steps]
    try:
        counts = tuple(int(part) for part in parts)
        if all(part == count for part, count in zip(parts, counts, strict=True)):
            return counts
    except (TypeError, ValueError):
        pass
    raise LoopscopeError(
        f"{name} must be a number of iterations, or two of them, without and with gradients, but is "
        f"{steps!r}."
    )
