"""PyTorch's errors about derivatives that can't be taken, as sentences."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..common.errors import LoopscopeError


@contextmanager
def derivative_errors() -> Iterator[None]:
    """A block in which PyTorch's error about a value that was overwritten is one of ours, as a
    sentence."""
    try:
        yield
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        raise LoopscopeError(
            "the derivative of a map needs what it was computed from, but the map overwrites it in place. "
            "Write it without the in-place operation, or measure what needs no derivative."
        ) from error
