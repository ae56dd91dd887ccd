"""A check of configuration fields that are one of several names."""

from typing import Any, get_args, get_type_hints

from ..common.errors import LoopscopeError, nearest


def check_choices(config: Any, *fields: str) -> None:
    """Check that each of these fields of a Config has one of the values of its Literal.

    Raises:
        LoopscopeError: a field has another value; with the nearest ones.
    """
    hints = get_type_hints(type(config))
    for field in fields:
        options, received = get_args(hints[field]), getattr(config, field)
        if received not in options:
            raise LoopscopeError(
                f"{field} must be one of its options, but is {received!r}. {nearest(str(received), options)}"
            )
