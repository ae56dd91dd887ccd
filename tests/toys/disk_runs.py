"""Runs that are recorded to disk, compared with runs in memory."""

from pathlib import Path
from typing import Any

from torch import Tensor

from loopscope.core.sites import is_state
from loopscope.core.states import States

from .file_kinds import same, site


def difference(one: Any, other: Any) -> str:
    """In what two runs differ; empty if they are the same, bit for bit."""
    if (one.names, one.iterations) != (other.names, other.iterations):
        return f"{one.names} {one.iterations}, {other.names} {other.iterations}"
    for name in one.names:
        if not same(site(one[name]), site(other[name])):
            return name
        if isinstance(one[name], States) and one[name].reasons != other[name].reasons:
            return f"reasons of {name}"
    halting = [None if run.halting is None else vars(run.halting) for run in (one, other)]
    outputs = [run.output if isinstance(run.output, Tensor) else None for run in (one, other)]
    parts = {"tokens": [one.tokens, other.tokens], "inputs": [one.inputs, other.inputs], "halting": halting}
    parts |= {"output": outputs, "mask": [one.mask, other.mask]}
    return next((name for name, pair in parts.items() if not same(*pair)), "")


def prefix_difference(one: Any, whole: Any) -> str:
    """In what a run that was interrupted differs from the first iterations of a whole one."""
    for name in one.names:
        values, all_values = one[name], whole[name]
        if not isinstance(values, States):
            if not same(values, all_values):
                return name
            continue
        last = one.iterations if is_state(name) else one.iterations - 1
        expected = {index: value for index, value in all_values.items() if index[0] <= last}
        if is_state(name) and 0 in values.reasons:
            expected = {index: value for index, value in expected.items() if index[0]}
        if name == "core_in" and 0 in values.reasons:
            expected = {index: value for index, value in expected.items() if index[0]}
        if values.axes != all_values.axes or not same(dict(values.items()), expected):
            return name
    return "" if same(one.tokens, whole.tokens) else "tokens"


def last_state(folder: Path) -> int:
    """The last state that the index of a folder names, read without loopscope."""
    import json

    lines = (folder / "index.jsonl").read_bytes().split(b"\n")[:-1]
    sites = [json.loads(line)["about"] for line in lines]
    return max((about["index"][0] for about in sites if about["site"] == "state"), default=-1)
