"""JSON as loopscope writes and reads it: what a recording notes becomes plain JSON here, and JSON
of others is read within bounds.

Unlike `to_json`, NaN and infinity stay as they are, as Python's json writes them, so that what is
read is what was written.
"""

import json
from collections.abc import Mapping
from typing import Any

from .errors import LoopscopeError
from .to_json import to_json

MOST_NESTING = 128
"""Lists and objects inside each other, at most."""
MOST_DIGITS = 4000
"""Digits of a number; Python reads 4300."""


def write_json(value: Any, what: str) -> str:
    """A value as JSON. What JSON doesn't have becomes what `to_json` makes of it: numbers of numpy
    and torch become numbers, a path its text.

    Arguments:
        what: the thing that is written, for the sentence.

    Raises:
        LoopscopeError: it is nested too deeply or within itself, or holds too long a number.
    """
    try:
        text = json.dumps(_plain(value, MOST_NESTING))
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise LoopscopeError(
            f"{what} must be such that JSON can hold it (at most {MOST_NESTING} lists inside each other, "
            f"numbers of at most {MOST_DIGITS} digits), but isn't: {error}. Leave out what is too large."
        ) from error
    return text


def read_json(text: str, what: str) -> Any:
    """The value of a JSON text.

    Raises:
        LoopscopeError: it isn't JSON, is nested too deeply, has a number of too many digits, or a
            key twice.
    """
    try:
        value = json.loads(text, parse_int=_whole, object_pairs_hook=_object)
        _check_nesting(value)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise LoopscopeError(
            f"{what} must be JSON, with at most {MOST_NESTING} lists inside each other, but isn't: {why}. "
            "Take another copy."
        ) from error
    return value


def _plain(value: Any, nesting: int) -> Any:
    if isinstance(value, str | bool | None) or type(value) in (int, float):
        return value
    if nesting == 0:
        raise ValueError(f"there are more than {MOST_NESTING} lists inside each other")
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, nesting - 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, nesting - 1) for inner in value]
    if isinstance(value, float):  # numpy's float64
        return float(value)
    return to_json(value)


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"it holds a number of {len(digits)} digits")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} is there twice")
    return result


def _check_nesting(value: Any) -> None:
    level = [value]
    for _ in range(MOST_NESTING + 1):
        inner = [one for one in level if isinstance(one, dict | list)]
        if not inner:
            return
        level = [x for one in inner for x in (one.values() if isinstance(one, dict) else one)]
    raise ValueError(f"there are more than {MOST_NESTING} lists inside each other")
