"""Errors and warnings. The text of an error has three parts: what must hold, what was received,
what to do."""

import difflib
from collections.abc import Iterable


class LoopscopeError(ValueError):
    """Base of all errors that loopscope raises on purpose.

    >>> try:
    ...     ls.record(model, tokens, iterations=-1)
    ... except ls.LoopscopeError as error:
    ...     print(error)
    iterations must be a whole number, 0 or more, but is -1. Pass e.g. iterations=32.
    """


class LoopscopeIndexError(LoopscopeError, IndexError):
    """There is no such iteration, position or row.

    >>> run.states[99]
    LoopscopeIndexError: 'state' at iteration 99 was requested, but this run has 0..32. ...
    """


class LoopscopeWarning(UserWarning):
    """Something that affects the results, though the computation went on.

    >>> warnings.simplefilter("error", ls.LoopscopeWarning)     # raise instead of warning
    """


def nearest(name: str, names: Iterable[str], most: int = 3) -> str:
    """A phrase with the names that are most similar to a misspelt one.

    >>> nearest("convergance", ["convergence", "halting"])
    "Did you mean 'convergence'?"
    """
    names = sorted(set(names))
    close = difflib.get_close_matches(name, names, n=most, cutoff=0.6)
    alike = {n: difflib.SequenceMatcher(None, n, name).ratio() for n in close}
    close = [n for n in close if alike[n] >= alike[close[0]] - 0.15]  # not names that only share an ending
    close = close or [n for n in names if name and (name in n or n in name)][:most]
    if close:
        return "Did you mean " + " or ".join(repr(n) for n in close) + "?"
    if not names:
        return "There are none to choose from."
    listed = ", ".join(names[:8]) + (f" ... ({len(names)} in all)" if len(names) > 8 else "")
    return f"There are: {listed}."
