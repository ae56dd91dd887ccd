"""What `wrap` makes of its arguments `repeat`, `update` and `order`."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..common.errors import LoopscopeError
from ..core.sites import modules_of
from .body_names import check_visible
from .layer_names import checked_order, layer_names
from .layer_path import LayerPath
from .repeated_window import RepeatedWindow
from .synthetic_loop import SyntheticLoop
from .update_rules import UpdateRule, update_rule


def synthetic_loop(
    module: nn.Module,
    body: str | Sequence[str] | None,
    repeat: int | None,
    update: str | UpdateRule | None,
    order: Sequence[int] | None,
    options: Mapping[str, Any],
) -> SyntheticLoop:
    """A feed-forward module with a loop in it.

    Arguments:
        options: what else was passed, which must all be None.

    Raises:
        LoopscopeError: no layers, arguments that exclude each other, or names that aren't there.
    """
    extra = [name for name, value in options.items() if value is not None]
    if body is None or extra:
        what = f"{extra[0]} was passed too" if extra else "body is None"
        raise LoopscopeError(
            f"a synthetic loop needs the names of the layers and nothing else of a loop body, but {what}. "
            'Write for instance ls.wrap(model, body="layers.2:5", repeat=4).'
        )
    if (repeat is None) == (order is None):
        raise LoopscopeError(
            "a synthetic loop needs either repeat, how often its layers run, or order, in which order, but "
            f"got repeat={repeat} and order={order}. Pass one of them."
        )
    if order is not None and update is not None:
        raise LoopscopeError(
            f"update belongs to a repeated window, but was passed with order={list(order)}. Leave one out."
        )
    names = layer_names(body, modules_of(module))
    check_visible(module, names)
    if repeat is not None:
        return RepeatedWindow(module, names, repeat, update_rule(update))
    assert order is not None
    return LayerPath(module, names, checked_order(order, len(names)))
