"""The names that `wrap` takes: of the body's modules, of inner loops, and of axes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..common.errors import LoopscopeError, nearest

RESERVED = {
    *("iteration", "batch", "position", "width", "head", "key", "vocab", "token", "step"),
    *("call", "between", "outside", "state", "site", "value", "scale", "how", "grad"),
}
"""Names that mean something else in a run, or as an argument of an edit."""


def body_names(body: str | Sequence[str], modules: Mapping[str, nn.Module]) -> list[str]:
    """The names of the body's modules; a ModuleList stands for its members.

    Raises:
        LoopscopeError: no names, no submodules, or a module that is there twice or inside another.
    """
    names: list[str] = []
    for name in [body] if isinstance(body, str) else body:
        check_module(name, modules, "body")
        several = isinstance(modules[name], nn.ModuleList)
        names += [f"{name}.{child}" for child, _ in modules[name].named_children()] if several else [name]
    if not names:
        raise LoopscopeError(
            f"body must name at least one module, such as 'core', but {body!r} has none. Name the part that "
            "repeats; print(ls.find_loops(model, tokens)) shows it."
        )
    for number, name in enumerate(names):
        for other in names[:number]:
            if modules[name] is modules[other]:
                same = f"'{name}' is there twice" if name == other else f"'{name}' is the module '{other}'"
                raise LoopscopeError(
                    f"body must name each of its modules once, but {same}: {names}. Name it once; each of "
                    "its calls is then an iteration."
                )
            inside = _inside(modules[name], modules[other]) or _inside(modules[other], modules[name])
            if inside:
                raise LoopscopeError(
                    f"the modules of a body must be called one after another, but one of '{other}' and "
                    f"'{name}' is inside the other: {names}. Name the outer one alone."
                )
    return names


def inner_names(
    inner: Mapping[str, str] | None, modules: Mapping[str, nn.Module], body: Sequence[str]
) -> dict[str, str]:
    """The modules of inner loops by axis.

    Raises:
        LoopscopeError: a name that can't be an axis, or a module that can't be an inner loop.
    """
    inner = inner or {}
    for axis, name in inner.items():
        check_axis(axis, "inner", RESERVED)
        check_module(name, modules, "inner")
        if len(body) == 1 and modules[name] is modules[body[0]]:
            raise LoopscopeError(
                f"an inner loop must be inside the body, but '{name}' is the body itself. Name a part of it, "
                "or leave inner= out."
            )
        others = [a for a, b in inner.items() if a != axis and modules.get(b) is modules[name]]
        if others:
            raise LoopscopeError(
                f"each inner loop must have a module of its own, but '{others[0]}' and '{axis}' are both "
                f"'{name}'. Leave one out."
            )
    return dict(inner)


def axis_names(axes: Sequence[str] | None, inner: Mapping[str, str]) -> tuple[str, ...] | None:
    """The names of the state's axes.

    Raises:
        LoopscopeError: they are no names, one is there twice, or the batch isn't first.
    """
    if axes is None:
        return None
    if not axes:
        raise LoopscopeError(
            'axes must name each axis of the state, such as ("batch", "channel", "position"), but is '
            f"{axes!r}."
        )
    for name in axes:
        check_axis(name, "axes", {"iteration", "call", "between", *inner})
    if axes[0] != "batch" or len(set(axes)) < len(axes):
        raise LoopscopeError(
            f"axes must be different names, and the first one 'batch', but are {tuple(axes)}. Transpose the "
            "state if the batch isn't its first axis."
        )
    return tuple(axes)


def check_axis(name: Any, what: str, reserved: set[str]) -> None:
    """Raise LoopscopeError if a name can't be that of an axis."""
    if not isinstance(name, str) or not name.isidentifier():
        raise LoopscopeError(f"{what} needs names that are single words, such as 'low', but got {name!r}.")
    if name in reserved:
        raise LoopscopeError(
            f"{what} needs names that mean nothing else, but {name!r} is a name of loopscope's own. Choose "
            "another, such as 'low'."
        )


def check_module(name: Any, modules: Mapping[str, nn.Module], what: str) -> None:
    """Raise LoopscopeError if there is no submodule of this name."""
    if not isinstance(name, str):
        raise LoopscopeError(f"{what} must name a submodule, but got {name!r}. Pass its name as a string.")
    if name not in modules:
        raise LoopscopeError(
            f"{what} must name a submodule, but there is no {name!r}. {nearest(name, modules)}"
        )


def check_visible(module: nn.Module, names: Sequence[str]) -> None:
    """Raise LoopscopeError if the calls of modules can't be seen: in one that was compiled or
    scripted, or that runs copies of itself."""
    modules = {"": module, **dict(module.named_modules(remove_duplicate=False))}
    for name in names:
        around = [""] + [name[:i] for i, sign in enumerate(name) if sign == "."] if name else []
        if isinstance(modules[name], torch.jit.ScriptModule):
            place = f"'{name}'" if name else "this module"
            raise LoopscopeError(
                f"loopscope must see the calls of a module's parts in Python, but {place} is a ScriptModule. "
                "Wrap the module that was scripted."
            )
        for parent in around or [name]:
            place = f"'{parent}'" if parent else "this module"
            found = modules[parent]
            if hasattr(found, "_orig_mod") or getattr(found, "_compiled_call_impl", None) is not None:
                raise LoopscopeError(
                    f"loopscope must see the calls of a module's parts, but {place} was compiled "
                    "(torch.compile), which runs as one graph. Wrap the module as it was before: after "
                    "compiled = torch.compile(model), that is model or compiled._orig_mod."
                )
            if isinstance(found, nn.DataParallel) and len(found.device_ids) > 1:
                raise LoopscopeError(
                    f"loopscope must see the calls of a module's parts, but {place} runs copies of them on "
                    f"{len(found.device_ids)} devices. Wrap its .module."
                )


def _inside(module: nn.Module, other: nn.Module) -> bool:
    return module is not other and any(part is module for part in other.modules())
