"""The line of the user's code that a warning is attributed to."""

import sys
from pathlib import Path

PACKAGE = str(Path(__file__).parents[1])


def users_stacklevel() -> int:
    """The `stacklevel` of `warnings.warn`, in the function that calls this one, for the nearest
    caller outside loopscope, however many functions are between."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
