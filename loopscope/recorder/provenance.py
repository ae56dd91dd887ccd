"""Provenance: how a run was made, as its file and the report state it."""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from ..adapters.base import Adapter
from ..common.to_json import to_json
from ..interventions.edit_checks import AnyEdit
from ..runs.keep import Keep


def circumstances(
    model: Any, edits: Sequence[AnyEdit], keep: Keep | None, seed: int | None
) -> dict[str, Any]:
    """Entry, architecture, config, task, weights, edits, keep, seed, mode, precision, device and
    versions, as values for JSON."""
    config = getattr(model, "config", None)
    task = getattr(model, "task", None)
    first = next(iter(model.parameters()), None) if isinstance(model, nn.Module) else None
    entry = getattr(model, "name", None)
    return {
        "entry": entry if isinstance(entry, str) else None,
        "architecture": type(model.module if isinstance(model, Adapter) else model).__name__,
        "config": to_json(vars(config)) if hasattr(config, "__dataclass_fields__") else None,
        "task": {"name": task.name, "options": to_json(task.options)} if task is not None else None,
        "weights": digest(model) if isinstance(entry, str) else None,
        "edits": [str(edit) for edit in edits],
        "keep": str(keep or Keep()),
        "whole": (keep or Keep()).whole,
        "seed": seed,
        "training": bool(getattr(model, "training", False)),
        "dtype": str(first.dtype).removeprefix("torch.") if first is not None else None,
        "device": str(first.device) if first is not None else None,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that the numbers depend on: loopscope, torch, transformer-lens."""
    return dict(_versions())


@cache  # they are read from the disk, which takes milliseconds of each recording
def _versions() -> dict[str, str]:
    result = {"torch": str(torch.__version__)}
    for name in ("loopscope", "transformer-lens"):
        try:
            result[name] = version(name)
        except PackageNotFoundError:
            result[name] = "not installed"
    return result


def digest(model: Any) -> str:
    """A hash of the weights: the first 16 hexadecimal digits of SHA-256."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
