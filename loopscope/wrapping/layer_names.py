"""The layers that a synthetic loop consists of: ranges such as "transformer.h.2:5", and the order
in which layers run."""

import re
from collections.abc import Mapping, Sequence

from torch import nn

from ..common.errors import LoopscopeError
from .body_names import body_names, check_module

_RANGE = re.compile(r"(?P<list>.+)\.(?P<first>-?\d*):(?P<end>-?\d*)")


def layer_names(body: str | Sequence[str], modules: Mapping[str, nn.Module]) -> list[str]:
    """The names of the layers. "h.2:5" stands for the layers 2, 3 and 4 of the list `h`, as a slice
    of Python; a ModuleList stands for its members.

    Raises:
        LoopscopeError: no layers, no submodules, or a layer that is there twice or inside another.
    """
    names: list[str] = []
    for name in [body] if isinstance(body, str) else body:
        ends = _RANGE.fullmatch(name)
        names += [name] if ends is None else _in_range(name, ends, modules)
    return body_names(names, modules)


def _in_range(name: str, ends: re.Match[str], modules: Mapping[str, nn.Module]) -> list[str]:
    parent = ends["list"]
    check_module(parent, modules, "body")
    members = [f"{parent}.{child}" for child, _ in modules[parent].named_children()]
    result = members[slice(*(int(ends[end]) if ends[end] else None for end in ("first", "end")))]
    if not result:
        raise LoopscopeError(
            f"a range of layers must have at least one, but {name!r} has none of the {len(members)} of "
            f"{parent!r}. The end isn't included, as in a slice: '{parent}.2:5' has the layers "
            "2, 3 and 4."
        )
    return result


def checked_order(order: Sequence[int], count: int) -> list[int]:
    """The order in which layers run, as indices.

    Raises:
        LoopscopeError: it is empty, or there is no such layer.
    """
    if not order:
        raise LoopscopeError("order must name at least one layer, but is empty. Leave it out, or name some.")
    for index in order:
        if not 0 <= index < count:
            raise LoopscopeError(
                f"order must have indices of the {count} layers of body, 0 to {count - 1}, but has {index}. "
                "Choose from these, or name more layers in body."
            )
    return list(order)
