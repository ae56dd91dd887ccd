"""Fields of a configuration that name a kind: one check, one sentence."""

from typing import Any, get_args, get_type_hints

from ..common.errors import LoopscopeError, nearest


def checked_kinds(config: Any, *fields: str) -> None:
    """Raise unless each of these fields of a Config holds one of the values that its Literal
    names."""
    hints = get_type_hints(type(config))
    for field in fields:
        options, received = get_args(hints[field]), getattr(config, field)
        if received not in options:
            raise LoopscopeError(
                f"{field} must be a known kind, but is {received!r}. {nearest(str(received), options)}"
            )
