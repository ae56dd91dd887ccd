"""The shelf of findings: published claims with their metric and criterion. An item is a module with
a `finding`, and with the functions `measure` and `holds`."""

from types import ModuleType
from typing import Any

from . import discovery
from .errors import LoopscopeError
from .shelf import Shelf, last_word, source_name

_MUST = "A finding must be a file with a finding and the functions measure and holds"
_ADVICE = "findings/README.md shows one to start from."


def is_finding(thing: Any) -> bool:
    """Whether this is the module of a finding, by its name `finding`."""
    return isinstance(thing, ModuleType) and hasattr(thing, "finding")


def _read(thing: Any, name: str | None) -> tuple[str, Any]:
    if not isinstance(thing, ModuleType):
        raise LoopscopeError(f"{_MUST}, but is {source_name(thing)}. {_ADVICE}")
    # By name: the class itself is of a higher folder.
    if type(getattr(thing, "finding", None)).__name__ != "Finding":
        raise LoopscopeError(f"{_MUST}, but {source_name(thing)} has no finding = Finding(...). {_ADVICE}")
    for function in ("measure", "holds"):
        if not callable(getattr(thing, function, None)):
            raise LoopscopeError(f"{_MUST}, but {source_name(thing)} has no {function}. {_ADVICE}")
    return name or last_word(thing.__name__), thing


FINDINGS = Shelf(
    "finding",
    "loopscope.findings",
    ours=lambda: discovery.names("findings"),
    load=lambda name: discovery.module("findings", name),
    holds=is_finding,
    read=_read,
)
