"""What loopscope says when something can't be done: what must hold, what was received, what to
do."""

import difflib
from collections.abc import Iterable


class LoopscopeError(ValueError):
    """Base of all errors that loopscope raises on purpose. Its text is a full sentence."""


class LoopscopeIndexError(LoopscopeError, IndexError):
    """An iteration, position or row was asked for that isn't there."""


class LoopscopeWarning(UserWarning):
    """Something that a reader of the numbers has to know, though the work could go on."""


def nearest(name: str, names: Iterable[str], most: int = 3) -> str:
    """A phrase that leads from a misspelt name to the right one.

    >>> nearest("convergance", ["convergence", "halting"])
    "Did you mean 'convergence'?"
    """
    names = sorted(set(names))
    close = difflib.get_close_matches(name, names, n=most, cutoff=0.6)
    alike = {n: difflib.SequenceMatcher(None, n, name).ratio() for n in close}
    close = [n for n in close if alike[n] >= alike[close[0]] - 0.15]  # not what merely shares an ending
    close = close or [n for n in names if name and (name in n or n in name)][:most]
    if close:
        return "Did you mean " + " or ".join(repr(n) for n in close) + "?"
    if not names:
        return "There are none to choose from."
    shown = ", ".join(names[:8]) + (f" ... ({len(names)} in all)" if len(names) > 8 else "")
    return f"There are: {shown}."
