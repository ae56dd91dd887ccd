"""Sites: named places whose activation can be recorded or edited, and the names of their axes."""

import copy
import fnmatch
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from ..common.errors import LoopscopeError, nearest
from .attention_pattern import why_no_pattern

Sites = str | Sequence[str] | Callable[[str], bool]

_PER_HEAD = {"hook_q", "hook_k", "hook_v", "hook_z", "hook_rot_q", "hook_rot_k", "hook_result"}
_PATTERN = {"hook_pattern", "hook_attn_scores"}


Path = tuple[Any, ...]
"""The way to a part of a nested value, as `get_at` takes it."""


def axes_of(name: str, value: Tensor, state: Tensor | None = None) -> tuple[str, ...]:
    """Names of a site's own axes (those after the loop axes), by TransformerLens' conventions for
    its hook names.

    Arguments:
        state: the loop's primary state, if there is one: a matrix of its (batch, position) has
            positions too.
    """
    last = name.rsplit(".", 1)[-1]
    if value.ndim == 4 and last in _PER_HEAD:
        return ("batch", "position", "head", "width")
    if value.ndim == 4 and last in _PATTERN:
        return ("batch", "head", "position", "key")
    if value.ndim == 2:
        positions = state is not None and state.ndim == 3 and value.shape == state.shape[:2]
        return ("batch", "position") if positions else ("batch", "width")
    if value.ndim <= 3:
        return ("batch", "position", "width")[: value.ndim]
    return ("batch", *(f"axis_{d}" for d in range(1, value.ndim - 1)), "width")


def is_state(site: str) -> bool:
    """Whether a site is the state or one of its fields, which have n+1 values, k = 0..n; other
    sites have n."""
    return site.split(".")[0] == "state"


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by every name it is registered under; one module can have several."""
    result: dict[str, nn.Module] = {}
    _add_named(model, "", result)
    return result


def _add_named(module: nn.Module, prefix: str, result: dict[str, nn.Module]) -> None:
    for name, part in module._modules.items():
        if part is not None:
            result[f"{prefix}{name}"] = part
            _add_named(part, f"{prefix}{name}.", result)


def site_modules(model: Any) -> dict[str, nn.Module]:
    """The module at each site of a looped model, by the site's name.

    The model's own `site_modules()` if it has one, else all its submodules. The module that gives
    the logit of halting (`model.halting_unit`) is the site `halting`.
    """
    if hasattr(model, "site_modules"):
        modules = model.site_modules()
    else:
        modules = modules_of(model) if isinstance(model, nn.Module) else {}
    unit = getattr(model, "halting_unit", None)
    return modules if unit is None else modules | {"halting": unit}


def resolve(sites: Sites, names: Iterable[str], hooks: Iterable[str]) -> list[str]:
    """The names of the sites that `sites` selects.

    Arguments:
        sites: a name, a list of names or glob patterns ("core.*.hook_resid_post"), "all", or a
            predicate.
        names: every site of the model.
        hooks: the sites that "all", patterns and predicates select from: the hook points, if the
            model has any.

    Raises:
        LoopscopeError: a name or pattern matches no site.
    """
    names, hooks = list(names), list(hooks)
    if callable(sites):
        return [name for name in hooks if sites(name)]
    selected: list[str] = []
    for site in [sites] if isinstance(sites, str) else sites:
        if not isinstance(site, str):
            raise LoopscopeError(
                f"a site is a name such as 'state', but got {site!r}. Pass its name as a string."
            )
        if site == "all":
            result = hooks
        elif any(sign in site for sign in "*?["):
            result = fnmatch.filter(hooks, site) or fnmatch.filter(names, site)
        else:
            result = [site] if site in names else []
        if not result:
            raise LoopscopeError(
                f"there is no site {site!r} in this model. {why_no_pattern(site) or nearest(site, names)}"
            )
        selected += result
    return list(dict.fromkeys(selected))


def find_tensor(value: Any, like: Tensor | None = None) -> Path | None:
    """The path to the activation in a module's input or output, which may be a tensor, tuple, list,
    dict or dataclass.

    It is the first floating-point tensor of the shape of `like`, else the first floating-point
    tensor. None if there is none.
    """
    if isinstance(value, Tensor):
        return () if value.is_floating_point() else None
    result = float_tensors(value)
    if like is not None:
        same = [path for path, tensor in result if tensor.shape == like.shape]
        if same:
            return same[0]
    return result[0][0] if result else None


def float_tensors(value: Any) -> list[tuple[Path, Tensor]]:
    """Every floating-point tensor in a module's input or output, with its path."""
    if isinstance(value, Tensor):
        return [((), value)] if value.is_floating_point() else []
    return [pair for pair in tensors_in(value) if pair[1].is_floating_point()]


def get_at(value: Any, path: Path) -> Any:
    """The part at `path` of a nested value."""
    for kind, key in path:
        value = getattr(value, key) if kind == "field" else value[key]
    return value


def put_at(value: Any, path: Path, new: Any) -> Any:
    """A copy of a nested value with `new` at `path`; nothing is changed in place."""
    if not path:
        return new
    (kind, key), rest = path[0], path[1:]
    inner = put_at(getattr(value, key) if kind == "field" else value[key], rest, new)
    if kind == "field":
        changed = copy.copy(value)
        object.__setattr__(changed, key, inner)
        return changed
    if isinstance(value, tuple):
        items = [*value[:key], inner, *value[key + 1 :]]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    changed = copy.copy(value)
    changed[key] = inner
    return changed


def tensors_in(value: Any) -> list[tuple[Path, Tensor]]:
    """Every tensor in a nested value, with its path."""
    result: list[tuple[Path, Tensor]] = []
    _add_tensors(value, (), result)
    return result


def _add_tensors(value: Any, path: Path, result: list[tuple[Path, Tensor]]) -> None:
    """Add the tensors of what is at `path`."""
    if isinstance(value, Tensor):
        result.append((path, value))
    elif value is None or isinstance(value, bool | int | float | str):
        return
    elif isinstance(value, dict):
        for key, inner in value.items():
            _add_tensors(inner, (*path, ("key", key)), result)
    elif isinstance(value, tuple | list):
        for key, inner in enumerate(value):
            _add_tensors(inner, (*path, ("key", key)), result)
    elif hasattr(value, "__dataclass_fields__"):
        for key in value.__dataclass_fields__:
            _add_tensors(getattr(value, key, None), (*path, ("field", key)), result)
    elif isinstance(value, SimpleNamespace):
        for key, inner in vars(value).items():
            _add_tensors(inner, (*path, ("field", key)), result)
