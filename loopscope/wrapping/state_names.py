"""StateNames: the tensors of a loop's state, as the user names them by arguments of the body.

A name is an argument of the body's forward (`"residual"`), its number (1), or a part of one that
holds several tensors (`"carry.h"`, `"carry.0"`).
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..core.sites import Path, float_tensors, get_at

Name = str | int
Named = Name | Sequence[Name] | Mapping[Name, Name]


@dataclass(frozen=True)
class StateNames:
    """Where the body receives each tensor of the state, and where it returns it if that was
    said."""

    sources: tuple[Name, ...]
    targets: tuple[Name | None, ...]
    parameters: tuple[str, ...]
    """The names of the arguments of the body's forward, in order."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the state's tensors; empty for a state of one tensor."""
        if len(self.sources) == 1:
            return ()
        names = [self._word(source).rsplit(".", 1)[-1] for source in self.sources]
        clear = len(set(names)) == len(names) and all(name.isidentifier() for name in names)
        return tuple(names if clear else [self._word(s).replace(".", "_") for s in self.sources])

    def source_paths(self, inputs: Any) -> list[Path]:
        """The path to each tensor in (args, kwargs) of a call.

        Raises:
            LoopscopeError: the call receives no such tensor.
        """
        return [self._source_path(source, inputs) for source in self.sources]

    def target_paths(self, output: Any) -> list[Path | None]:
        """The path to each tensor in what the body returns; None where it isn't said, no part of
        the output has the tensor's own name, and there are several tensors.

        Raises:
            LoopscopeError: the output has no such tensor.
        """
        paths: list[Path | None] = []
        for source, target in zip(self.sources, self.targets, strict=True):
            name = self._word(source) if target is None else target
            path = _walk(output, str(name).split(".")) if _parts(output) or target is None else ()
            if path is None and target is not None:
                raise LoopscopeError(
                    f"state={{{source!r}: {target!r}}} must name a floating-point tensor that the body "
                    f"returns, but it returns {described(output)}. Name one of these."
                )
            paths.append(path)
        returned = float_tensors(output)
        if paths == [None] and len(returned) == 1:
            return [returned[0][0]]
        return paths

    def _word(self, source: Name) -> str:
        if isinstance(source, str):
            return source
        return self.parameters[source] if source < len(self.parameters) else f"input_{source}"

    def _source_path(self, source: Name, inputs: Any) -> Path:
        args, kwargs = inputs
        rest: list[str] = []
        if isinstance(source, int):
            name = self.parameters[source] if source < len(self.parameters) else None
            number = source
        else:
            name, *rest = source.split(".")
            number = _index(self.parameters, name)
        path: Path | None = None
        if name in kwargs:
            path = _walk(kwargs[name], rest, (("key", 1), ("key", name)))
        elif number is not None and number < len(args):
            path = _walk(args[number], rest, (("key", 0), ("key", number)))
        if path is None:
            raise LoopscopeError(
                f"state={source!r} must name a floating-point tensor that the body receives, but it receives "
                f"{self.received(inputs)}. Name one of these."
            )
        return path

    def received(self, inputs: Any) -> str:
        """The floating-point tensors of a call's inputs, by the names that `state=` takes."""
        words = [repr(source_text(path, self.parameters)) for path, _ in float_tensors(inputs)]
        return ", ".join(words) or "none"


def state_names(state: Named | None, body: nn.Module) -> StateNames | None:
    """The names from the argument `state` of `wrap`.

    Raises:
        LoopscopeError: they are no names, or one is there twice.
    """
    if state is None:
        return None
    pairs: list[tuple[Any, Any]]
    if isinstance(state, Mapping):
        pairs = list(state.items())
    else:
        names = list(state) if isinstance(state, Sequence) and not isinstance(state, str) else [state]
        pairs = [(name, None) for name in names]
    every = [name for pair in pairs for name in pair if name is not None]
    if not pairs or not all(_is_name(name) for name in every):
        raise LoopscopeError(
            "state must name arguments of the body that are its state: a name, a number, or several of them, "
            f'such as state="h" or state=("branch", "residual"), but is {state!r}. With a dictionary you say '
            'which output is the next value of each: state={"h": 0}.'
        )
    sources = tuple(source for source, _ in pairs)
    found = StateNames(sources, tuple(target for _, target in pairs), parameters_of(body))
    if len({found._word(source) for source in sources}) < len(sources):
        raise LoopscopeError(f"state must name each tensor once, but is {state!r}. Leave out the second.")
    return found


def parameters_of(body: nn.Module) -> tuple[str, ...]:
    """The names of the arguments of a module's forward, up to the first * of its signature."""
    try:
        parameters = inspect.signature(body.forward).parameters.values()
    except (TypeError, ValueError):  # a scripted module
        return ()
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [p.name for p in parameters if p.kind not in kinds]
    return tuple(named)


def source_text(path: Path, parameters: Sequence[str]) -> str:
    """The path of an input as `state=` takes it: `residual`, `carry.h`, `1`."""
    (_, group), (_, head), *rest = path
    name = parameters[head] if group == 0 and head < len(parameters) else head
    return ".".join(str(part) for part in [name, *(key for _, key in rest)])


def target_text(path: Path) -> str:
    """The path of an output, as a noun: `its output`, `output 1`, `output 'h'`."""
    if not path:
        return "its output"
    word = ".".join(str(key) for _, key in path)
    return f"output {word}" if word.isdigit() else f"output {word!r}"


def described(value: Any) -> str:
    """What a module received or returned, for errors."""
    found = [".".join(str(key) for _, key in path) for path, _ in float_tensors(value)]
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')}"
    return f"a {type(value).__name__} with " + (", ".join(found) if found else "no floating-point tensor")


def _walk(value: Any, keys: Sequence[str], path: Path = ()) -> Path | None:
    """The path to a floating-point tensor through named parts; None if there is none."""
    for key in keys:
        names = getattr(value, "_fields", ())
        if key in names:
            step = ("key", names.index(key))
        elif isinstance(value, tuple | list):
            step = ("key", int(key)) if key.isdigit() and int(key) < len(value) else None
        elif isinstance(value, Mapping):
            step = ("key", key) if key in value else None
        else:
            step = ("field", key) if not isinstance(value, Tensor) and hasattr(value, key) else None
        if step is None:
            return None
        path, value = (*path, step), get_at(value, (step,))
    inside = float_tensors(value)
    return (*path, *inside[0][0]) if len(inside) == 1 else None


def _parts(value: Any) -> bool:
    return not isinstance(value, Tensor)


def _index(names: Sequence[str], name: str) -> int | None:
    if name in names:
        return names.index(name)
    return int(name) if name.isdigit() else None


def _is_name(name: Any) -> bool:
    if isinstance(name, str):
        return bool(name)
    return isinstance(name, int) and not isinstance(name, bool) and name >= 0
