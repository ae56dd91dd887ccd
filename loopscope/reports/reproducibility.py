"""How a page came about: what was run, on which versions, and how to make it again."""

import hashlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

from ..runs.run import Run

_DECIDE = ("loopscope", "torch", "transformer-lens", "numpy", "scipy", "scikit-learn", "plotly")


def rows(run: Run) -> list[tuple[str, str]]:
    """Names and values, in the order in which they are shown. Plain text."""
    origin = run.origin
    result = [
        ("entry", origin.get("entry")),
        ("architecture", origin.get("architecture")),
        ("configuration", _spelled(origin.get("config"))),
        ("task", _task(origin.get("task"))),
        ("weights", origin.get("weights")),
        ("tokens", _tokens(run.tokens)),
        ("iterations", str(run.iterations)),
        ("sites", ", ".join(run.names)),
        ("edits", "; ".join(origin.get("edits") or []) or "none"),
        ("kept", origin.get("keep")),
        ("seed of the recording", "none drawn" if origin.get("seed") is None else str(origin["seed"])),
        ("numbers", f"{origin.get('dtype')} on {origin.get('device')}"),
        ("recorded with", _spelled(origin.get("versions"))),
    ]
    now = {name: _version(name) for name in _DECIDE}
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, threads used {torch.get_num_threads()}"
    result += [
        ("page made with", f"Python {platform.python_version()}, {_spelled(now)}"),
        ("machine", machine),
    ]
    return [(name, str(value)) for name, value in result if value]


def _tokens(tokens: object) -> str | None:
    if not isinstance(tokens, Tensor):
        return None
    digest = hashlib.sha256(tokens.cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
    return f"{' × '.join(map(str, tokens.shape))} ({digest})"


def _task(task: dict | None) -> str | None:
    return f"{task['name']}({_spelled(task['options'])})" if task else None


def _spelled(values: dict | None) -> str | None:
    if not values:
        return None
    return ", ".join(f"{k} {v if isinstance(v, str) else json.dumps(v)}" for k, v in values.items())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
