"""How a run was made: what its file says, and what a reader needs to make it again."""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from ..adapters.base import Adapter
from ..common.to_json import to_json
from ..interventions.edits import Edit, Several, Times
from ..runs.keep import Keep

Edits = Sequence[Edit | Times | Several]


def circumstances(model: Any, edits: Edits, keep: Keep | None, seed: int | None) -> dict[str, Any]:
    """Entry, architecture, config, task, edits, keep, seed, mode, precision, device and versions,
    as JSON can say them."""
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
    """Versions that decide about numbers: loopscope, torch, transformer-lens."""
    return dict(_versions())


@cache  # reading them from the disk takes milliseconds, and a recording asks each time
def _versions() -> dict[str, str]:
    result = {"torch": str(torch.__version__)}
    for name in ("loopscope", "transformer-lens"):
        try:
            result[name] = version(name)
        except PackageNotFoundError:
            result[name] = "not installed"
    return result


def digest(model: Any) -> str:
    """A fingerprint of the weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
