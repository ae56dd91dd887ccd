"""The analyses' shelf: questions that can be put to a run, by name.

>>> import loopscope as ls
>>> found = ls.analyses.measure("convergence", run)          # a file analyses/<name>.py
>>> found.verdict, found.figure(), print(found)
"""

import inspect
from typing import Any

from ..common import discovery

__path__ = discovery.folders("analyses")


def names() -> list[str]:
    """The analyses there are."""
    return discovery.names("analyses")


def measure(name: str, run: Any, **options: Any) -> Any:
    """Put the analysis' question to a run.

    Arguments:
        run: what `loopscope.record` gave.
        options: the analysis' own; see its file.

    Returns:
        A frozen finding with its numbers, a `verdict`, a `figure()` and a text.
    """
    question = discovery.module("analyses", name).measure
    for option in options:
        discovery.checked_name(
            f"option of {name}", option, [n for n in inspect.signature(question).parameters if n != "run"]
        )
    return question(run, **options)
