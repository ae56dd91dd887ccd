"""What is needed to reproduce a page: the run, its settings and the versions."""

import hashlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

from ..runs.run import Run

_PACKAGES = ("loopscope", "torch", "transformer-lens", "numpy", "scipy", "scikit-learn", "plotly")


def rows(run: Run) -> list[tuple[str, str]]:
    """Names and values, in the order of the page. Plain text."""
    origin, keep = run.origin, str(run.origin.get("keep", ""))
    result = [
        ("entry", origin.get("entry")),
        ("architecture", origin.get("architecture")),
        ("configuration", _text(origin.get("config"))),
        ("task", _task(origin.get("task"))),
        ("weights", origin.get("weights")),
        ("tokens", _tokens(run.tokens)),
        ("positions that count", str(run.counted)),
        ("iterations", str(run.iterations)),
        ("sites", ", ".join(run.names)),
        ("edits", "; ".join(origin.get("edits") or []) or "none"),
        ("states kept", {"everything": "all"}.get(keep, keep)),
        ("recording seed", "none needed" if origin.get("seed") is None else str(origin["seed"])),
        ("dtype and device", f"{origin.get('dtype')} on {origin.get('device')}"),
        ("recorded with", _text(origin.get("versions"))),
    ]
    packages = {name: _version(name) for name in _PACKAGES}
    machine = (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"threads used {torch.get_num_threads()}"
    )
    result += [
        ("page made with", f"Python {platform.python_version()}, {_text(packages)}"),
        ("machine", machine),
    ]
    return [(name, str(value)) for name, value in result if value]


def _tokens(tokens: object) -> str | None:
    if not isinstance(tokens, Tensor):
        return None
    digest = hashlib.sha256(tokens.cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
    return f"{' × '.join(map(str, tokens.shape))} ({digest})"


def _task(task: dict | None) -> str | None:
    return f"{task['name']}({_text(task['options'])})" if task else None


def _text(values: dict | None) -> str | None:
    if not values:
        return None
    return ", ".join(f"{k} {v if isinstance(v, str) else json.dumps(v)}" for k, v in values.items())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
