"""Files of probes: safetensors with a JSON header. Nothing is unpickled."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.files import load_file, save_file
from .probe_result import SETTINGS, ProbeResult

_TENSORS = (
    "score",
    "low",
    "high",
    "control",
    "random",
    "baseline",
    "majority",
    "rows",
    "identity",
    "fold",
    "labels",
    "mask",
)
_SETTINGS = (*SETTINGS, "origin")


def save_fields(probes: ProbeResult, path: str | os.PathLike[str]) -> Path:
    """Write probes as one file; returns its path."""
    tensors = {name: getattr(probes, name) for name in _TENSORS}
    for kind, by_place in (("weight", probes.weights), ("bias", probes.biases)):
        tensors |= {f"{kind}/{'/'.join(map(str, place))}": value for place, value in by_place.items()}
    header: dict[str, Any] = {name: getattr(probes, name) for name in _SETTINGS}
    # safetensors stores a tensor once; two names of one storage would be refused
    return save_file(
        path, {k: v.clone() for k, v in tensors.items()}, header | {"kind": "probes", "labels": probes.kind}
    )


def load_fields(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields of probes that `save_fields` wrote.

    Raises:
        LoopscopeError: the file is missing, truncated, of another kind, or incomplete.
    """
    tensors, header = load_file(path, kind="probes")
    try:
        settings: dict[str, Any] = {name: header[name] for name in _SETTINGS} | {"kind": header["labels"]}
        tensors_by_name: dict[str, Any] = {name: tensors[name] for name in _TENSORS}
        parts: dict[str, dict[tuple[int, int, int], Tensor]] = {"weight": {}, "bias": {}}
        for key, value in tensors.items():
            kind, _, place = key.partition("/")
            if place:
                s, k, p = map(int, place.split("/"))
                parts[kind][s, k, p] = value
        for name in ("sites", "iterations", "positions", "classes", "notes"):
            settings[name] = tuple(settings[name])
        shape = tuple(len(settings[name]) for name in ("sites", "iterations", "positions"))
        if any(tensors_by_name[name].shape != torch.Size(shape) for name in _TENSORS[:8]):
            raise ValueError(f"its numbers must be {shape}")
    except (KeyError, TypeError, ValueError) as error:
        raise LoopscopeError(
            f"{path} lacks what probes need ({error!r}): take another copy, or fit them again."
        ) from error
    return {**settings, **tensors_by_name, "weights": parts["weight"], "biases": parts["bias"]}
