"""The shelf of analyses. An item is a module, or what stands for one, with `measure` and `draw`,
and with the names that a report uses (`loopscope.reports.analysis_section`)."""

import sys
from types import FunctionType, ModuleType
from typing import Any

from . import discovery
from .errors import LoopscopeError
from .finding_shelf import is_finding
from .shelf import Shelf, last_word, source_name

_NAMES = (
    "draw", "SUBJECT", "TITLE", "PLACE", "GROUP", "TOPIC", "RANK", "applies", "panels", "claim", "headline",
    "price", "REDUCED",
)  # fmt: skip
"""What a report reads of a module besides `measure`."""
_MUST = "An analysis must be a file, a folder or a module with the functions measure and draw, or its measure"
_ADVICE = "loopscope new analysis NAME writes one to start from."


def _holds(thing: Any) -> bool:
    if isinstance(thing, ModuleType):
        return hasattr(thing, "measure") and not is_finding(thing)  # which is measured, too
    return isinstance(thing, FunctionType)


def _read(thing: Any, name: str | None) -> tuple[str, Any]:
    if isinstance(thing, FunctionType):
        return _of_function(thing, name)
    if not isinstance(thing, ModuleType):
        raise LoopscopeError(f"{_MUST}, but is {source_name(thing)}. {_ADVICE}")
    for function in ("measure", "draw"):
        if not callable(getattr(thing, function, None)):
            raise LoopscopeError(f"{_MUST}, but {source_name(thing)} has no {function}. {_ADVICE}")
    return name or last_word(thing.__name__), thing


def _of_function(measure: FunctionType, name: str | None) -> tuple[str, Any]:
    home = sys.modules.get(measure.__module__)
    if home is not None and getattr(home, "measure", None) is measure and home.__name__ != "__main__":
        return _read(home, name)
    module = ModuleType(name or measure.__name__)
    present = {one: measure.__globals__[one] for one in _NAMES if one in measure.__globals__}
    vars(module).update(present, measure=measure, __doc__=measure.__doc__)
    return _read(module, module.__name__)


ANALYSES = Shelf(
    "analysis",
    "loopscope.analyses",
    ours=lambda: discovery.names("analyses"),
    load=lambda name: discovery.module("analyses", name),
    holds=_holds,
    read=_read,
)
