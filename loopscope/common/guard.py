"""guarded: check the arguments of a public function against its annotations.

@guarded
def skip(iteration: Index) -> ScheduleEdit: ...

skip(np.int64(3))   # the function receives the int 3
skip("three")       # LoopscopeError: skip: iteration must be a whole number, but is 'three' ...

The annotations are read at the first call. pydantic checks them, strictly: numbers of NumPy and
PyTorch become those of Python, arrays become lists where a sequence is declared, and nothing else
is converted. A class is checked by isinstance, so `Float[Tensor, "sample width"]` of jaxtyping too;
axes of one name have one size in all arguments.
"""

import ast
import collections.abc as abc
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from annotated_types import Predicate
from jaxtyping import jaxtyped

from .arguments import (
    FINITE,
    Canonical,
    Meaning,
    elements,
    has_values,
    real_number,
    truth,
    tuple_of_list,
    whole_number,
)
from .errors import LoopscopeError, nearest

P = ParamSpec("P")
R = TypeVar("R")

_NUMBERS = {int: whole_number, float: real_number, bool: truth}
_WORDS = {
    int: "a whole number", float: "a number", bool: "True or False", str: "a string", slice: "a slice",
    Any: "anything", type(None): "None", os.PathLike: "a path",
}  # fmt: skip
_PLURALS = {int: "whole numbers", float: "numbers", str: "strings", bool: "True and False"}
_DTYPES = {"Float": "of floats ", "Int": "of integers ", "Bool": "of bool ", "Complex": "of complex numbers "}
_LONGEST = 80
"""Characters of a received value that an error shows."""


def guarded(function: Callable[P, R], name: str | None = None) -> Callable[P, R]:
    """The function, with its arguments checked against its annotations at every call.

    Arguments:
        name: of the function, as errors say it; None: its own.

    Raises:
        LoopscopeError: by the function it returns: an argument that isn't declared, is missing, or
            isn't what is declared.
    """

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = _bound(function, args, kwargs)
        validators = _validators(function, name or function.__qualname__)
        with jaxtyped("context"):  # axes of one name have one size in all arguments, and only in these
            for argument, validate in validators.items():
                if argument in bound.arguments:
                    bound.arguments[argument] = validate(bound.arguments[argument])
        return function(*bound.args, **bound.kwargs)

    return checked


def _bound(function: Callable[..., Any], args: Any, kwargs: Any) -> inspect.BoundArguments:
    signature = _signature(function)
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        known = [name for name in signature.parameters if name not in ("self", "cls")]
        kinds = {parameter.kind for parameter in signature.parameters.values()}
        takes_any = inspect.Parameter.VAR_KEYWORD in kinds
        unknown = [name for name in kwargs if not takes_any and name not in signature.parameters]
        reason = f"{error}. Its arguments: {', '.join(known)}."
        if unknown:
            reason = f"there is no argument {unknown[0]!r}. {nearest(unknown[0], known)}"
        raise LoopscopeError(f"{function.__qualname__}: {reason}") from None


@cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


@cache
def _validators(function: Callable[..., Any], name: str) -> dict[str, Callable[[Any], Any]]:
    """By argument: a function that gives the canonical form of a value, or raises LoopscopeError.
    Arguments that may be anything have none."""
    about = f'See help("{function.__module__}.{function.__qualname__}").'

    def validator(argument: str, hint: Any) -> Callable[[Any], Any]:
        return lambda value: validated(value, hint, f"{name}: {argument}", about)

    def validator_of_each(hint: Any) -> Callable[[Any], Any]:
        return lambda values: {key: validator(key, hint)(value) for key, value in values.items()}

    result: dict[str, Callable[[Any], Any]] = {}
    for argument, hint in annotations(function).items():
        if argument == "return" or hint is Any:
            continue
        kind = _signature(function).parameters[argument].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            result[argument] = validator_of_each(hint)
        elif kind is not inspect.Parameter.VAR_POSITIONAL:
            result[argument] = validator(argument, hint)
    return result


def annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """The type of each argument of a function, with names resolved that its file imports for type
    checkers alone."""
    module = sys.modules[function.__module__]
    return typing.get_type_hints(function, localns=_type_checking_imports(module), include_extras=True)


@cache
def _type_checking_imports(module: types.ModuleType) -> dict[str, Any]:
    """What a module imports in its blocks `if TYPE_CHECKING:`."""
    if not hasattr(module, "TYPE_CHECKING"):
        return {}
    blocks = [
        block
        for block in ast.parse(inspect.getsource(module)).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
    ]
    namespace = {"__package__": module.__package__, "__name__": module.__name__}
    for block in blocks:
        imports = ast.Module(list(block.body), type_ignores=[])
        exec(compile(imports, str(module.__file__), "exec"), namespace)  # our own source
    return namespace


def validated(value: Any, hint: Any, name: str, about: str) -> Any:
    """The canonical form of a value, checked against a type as `guarded` does.

    Arguments:
        name: of the value, as the error says it.
        about: what to do, the end of the error.

    Raises:
        LoopscopeError: it isn't of this type.
    """
    from pydantic import ValidationError

    try:
        return _adapter(hint).validate_python(value)
    except ValidationError:
        about = getattr(type(value), "instead", about)  # what a class says to pass in its place
        raise LoopscopeError(
            f"{name} must be {description(hint)}, but is {_excerpt(value)}.{_suggestion(value, hint)} {about}"
        ) from None


@cache
def _adapter(hint: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(_strict(hint), config=ConfigDict(arbitrary_types_allowed=True, strict=True))


def _strict(hint: Any) -> Any:
    """A type that pydantic checks as this module's docstring says."""
    from pydantic import BeforeValidator, InstanceOf

    origin, args = get_origin(hint), get_args(hint)
    if hint in _NUMBERS:
        return Annotated[Any, BeforeValidator(_NUMBERS[hint])]
    if origin is Annotated:
        forms = [BeforeValidator(one.form) for one in args[1:] if isinstance(one, Canonical)]
        other = [one for one in args[1:] if not isinstance(one, Canonical | Meaning)]
        return Annotated[(_strict(args[0]), *forms, *other)] if forms or other else _strict(args[0])
    if origin in (Union, types.UnionType):
        return Union[tuple(_strict(arg) for arg in args)]  # noqa: UP007 (of a computed tuple)
    if origin in (abc.Sequence, list):
        return Annotated[Sequence[_strict(args[0])], BeforeValidator(elements)]
    if origin is tuple and args[-1] is not Ellipsis:
        return Annotated[tuple[tuple(_strict(arg) for arg in args)], BeforeValidator(tuple_of_list)]
    if origin is Literal or hint in (Any, str, None, type(None)):
        return hint
    if origin is not None:  # a mapping, an iterable, a function: what is inside is checked where it is used
        return InstanceOf[origin]
    checkable = isinstance(hint, type) and getattr(hint, "_is_runtime_protocol", True)
    if _is_tensor(hint) or hasattr(hint, "dim_str"):
        return Annotated[InstanceOf[hint], Predicate(has_values)]
    return InstanceOf[hint] if checkable else Any


def _is_tensor(hint: Any) -> bool:
    """Whether a class is torch's Tensor; torch isn't imported for it."""
    return getattr(hint, "__name__", "") == "Tensor" and hint.__module__ == "torch"


def description(hint: Any) -> str:
    """A type in words, as an error says it.

    >>> description(Literal["zero", "mean"] | None)
    "'zero' or 'mean' (or None)"
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        texts = [one.text for one in args[1:] if isinstance(one, Meaning)]
        return texts[0] if texts else description(args[0]) + " without NaN or infinity" * (FINITE in args)
    if origin in (Union, types.UnionType):
        *first, last = dict.fromkeys(description(arg) for arg in args if arg is not type(None))
        text = f"{', '.join(first)} or {last}" if first else last
        return f"{text} (or None)" if type(None) in args else text
    if origin is Literal:
        return " or ".join(repr(arg) for arg in args)
    if origin is tuple and args[-1] is not Ellipsis:
        kinds = list(dict.fromkeys(description(arg) for arg in args))
        return (
            f"a tuple of {len(args)}, each {kinds[0]}" if len(kinds) == 1 else f"a tuple ({', '.join(kinds)})"
        )
    if origin in (abc.Sequence, list):
        return f"a sequence of {_PLURALS.get(args[0]) or f'({description(args[0])})'}"
    if hasattr(hint, "dim_str"):  # of jaxtyping
        kind = _DTYPES.get(hint.__name__.split("[")[0], "")
        return f"a tensor {kind}(axes: {', '.join(hint.dim_str.split()) or 'none'})"
    name = "function" if origin is abc.Callable else getattr(origin or hint, "__name__", str(hint))
    name = "torch.nn.Module" if name == "Module" else name
    return _WORDS.get(origin or hint) or f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _excerpt(value: Any) -> str:
    """A value in an error: its beginning and its type, of a tensor only its shape."""
    kind = type(value).__name__
    if hasattr(value, "shape") and getattr(value, "ndim", 0):
        return f"a {kind} {tuple(value.shape)} of {value.dtype}"
    if isinstance(value, bool | None):
        return repr(value)
    try:
        text = repr(value)
    except Exception:  # a foreign object's own repr
        return f"a {kind}"
    if len(text) > _LONGEST or "\n" in text or " object at 0x" in text:
        return f"a {kind}"
    return f"{text} ({kind})"


def _suggestion(value: Any, hint: Any) -> str:
    """For a misspelt option: the nearest one."""
    options = [arg for arg in get_args(hint) if isinstance(arg, str)]
    for arg in get_args(hint):
        if get_origin(arg) is Literal:
            options += [one for one in get_args(arg) if isinstance(one, str)]
    hint = nearest(value, options) if isinstance(value, str) and options else ""
    return f" {hint}" if hint.startswith("Did you mean") else ""
