"""Whether the body of a loop can be called once more in an iteration."""

from typing import Any

from ..adapters.forward_inputs import is_cache
from ..common.errors import LoopscopeError
from .body_calls import BodyCalls


def check_repeatable(moment: Any, calls: BodyCalls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise LoopscopeError if the body can't be repeated by the edit `moment`.

    Arguments:
        args, kwargs: what the body received.
    """
    if not calls.one_module:
        raise LoopscopeError(
            f"{moment}: only a body that is one module can be repeated. Skip it, or wrap another body."
        )
    if any(is_cache(part) for part in (*args, *kwargs.values())):
        raise LoopscopeError(
            f"{moment}: a body that is repeated must have no cache, into which each call would write its "
            f"keys and values once more, but '{calls.names[0]}' was given one. Pass use_cache=False."
        )
