"""Working calls of the public functions of findings, for the law of bad input: name, function,
arguments, and the names of those that aren't changed."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import loopscope as ls

from . import tiny_finding

FindingCall = tuple[str, Callable[..., Any], dict[str, Any], tuple[str, ...]]


def finding_calls() -> Iterator[FindingCall]:
    """Those that write are of a finding in a checkout of its own, where its results stand."""
    yield "findings.result", ls.findings.result, {"which": 19}, ()
    yield "findings.page", ls.findings.page, {"which": 19}, ()
    yield "findings.name_of", ls.findings.name_of, {"which": 19}, ()
    if shutil.which("git") is None:
        return
    file = tiny_finding.write(Path("a checkout"))
    tiny_finding.commit(file)
    ran = {"which": file, "seeds": 1, "folder": "findings"}
    yield "findings.draw", _drawn, {"which": file}, ()
    ls.findings.run(**ran)
    # a folder that can be written would be written
    yield "findings.run", ls.findings.run, ran, ("folder",)
    yield "findings.note", ls.findings.note, {"which": file, "text": "So it is."}, ()


def _drawn(which: Any) -> list[int]:
    """`ls.findings.draw` of a finding without results, which it may then draw for."""
    shutil.rmtree("a checkout/results", ignore_errors=True)
    return ls.findings.draw(which)
