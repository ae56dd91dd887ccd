"""Memory that was freed goes back to the system.

glibc keeps what is freed between two pieces that are in use. Where large tensors come and go and
something small stays of each, such as a line of an index, the holes are just too small for the next
tensor: a recording of 8 GB to disk had 2.3 GB of them.
"""

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def return_freed_memory() -> None:
    """Give the system what this process has freed, where the C library can do so; else nothing."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library than glibc
        return None
