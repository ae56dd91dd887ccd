"""The fields of a header or of another JSON object, checked by a dataclass that declares them.

A field of the JSON that the dataclass doesn't declare is ignored, so that a newer version may write
more.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Le

from .errors import LoopscopeError

T = TypeVar("T")


class Strict:
    """Marks a number that pydantic must not convert: True is no 1, and "1" isn't either. pydantic
    has the same, but takes too long to import for what only loading needs."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return {**handler(source), "strict": True}


Whole = Annotated[int, Strict()]
"""A whole number."""
Count = Annotated[int, Strict(), Ge(0), Le(2**53)]
"""A whole number that every reader of JSON reads exactly."""
Number = Annotated[float, Strict()]
"""A number, NaN and infinity too."""


def checked_fields(kind: type[T], value: Any, what: str, remedy: str) -> T:
    """The object as an instance of the dataclass `kind`.

    Arguments:
        what: the thing that holds it, such as "run.safetensors", for the sentence.
        remedy: what to do, as a sentence.

    Raises:
        LoopscopeError: a field is missing or of another type; the error names the first.
    """
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        received = "" if first["type"] == "missing" else f" (it is {_short(first['input'])})"
        raise LoopscopeError(
            f"{what} must hold what loopscope wrote, but {place!r} doesn't fit: "
            f"{first['msg'][0].lower()}{first['msg'][1:]}{received}. {remedy}"
        ) from error


@contextmanager
def described_by(what: str, remedy: str) -> Iterator[None]:
    """Turn whatever is raised by what a header describes, such as a model of no heads, into a
    sentence.

    Arguments:
        what: what must be right, such as "the header of x.safetensors".
        remedy: what to do, as a sentence.
    """
    try:
        yield
    except Exception as error:  # an architecture may raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0][:300]
        raise LoopscopeError(
            f"{what} must describe what this version of loopscope has, but: {reason} {remedy}"
        ) from error


def is_json_of(kind: Any, value: Any) -> bool:
    """Whether a value from JSON is of an annotated type. A list may stand for a tuple, and a whole
    number for a number; nothing else is converted."""
    from pydantic import ValidationError

    try:
        _adapter(kind).validate_json(json.dumps(value), strict=True)
    except (ValidationError, ValueError, TypeError):
        return False
    return True


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:70]}..."
