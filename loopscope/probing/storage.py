"""Probes on disk: safetensors with a JSON header. Nothing is unpickled."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.files import load_file, save_file
from .probes import Probes
from .result import PLAIN

_GRIDS = (
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
_PLAIN = (*PLAIN, "origin")


def save(probes: Probes, path: str | os.PathLike[str]) -> Path:
    """Write probes as one file."""
    tensors = {name: getattr(probes, name) for name in _GRIDS}
    for kind, by_place in (("weight", probes.weights), ("bias", probes.biases)):
        tensors |= {f"{kind}/{'/'.join(map(str, place))}": value for place, value in by_place.items()}
    header: dict[str, Any] = {name: getattr(probes, name) for name in _PLAIN}
    # safetensors stores a tensor once; two names of one storage would be refused
    return save_file(
        path, {k: v.clone() for k, v in tensors.items()}, header | {"kind": "probes", "labels": probes.kind}
    )


def load_probes(path: str | os.PathLike[str]) -> Probes:
    """Read probes that `save` wrote.

    Raises:
        LoopscopeError: the file is missing, truncated, of another kind, or lacks what probes need.
    """
    tensors, header = load_file(path, kind="probes")
    try:
        plain: dict[str, Any] = {name: header[name] for name in _PLAIN} | {"kind": header["labels"]}
        grids: dict[str, Any] = {name: tensors[name] for name in _GRIDS}
        parts: dict[str, dict[tuple[int, int, int], Tensor]] = {"weight": {}, "bias": {}}
        for key, value in tensors.items():
            kind, _, place = key.partition("/")
            if place:
                s, k, p = map(int, place.split("/"))
                parts[kind][s, k, p] = value
        for name in ("sites", "iterations", "positions", "classes", "notes"):
            plain[name] = tuple(plain[name])
        shape = tuple(len(plain[name]) for name in ("sites", "iterations", "positions"))
        if any(grids[name].shape != torch.Size(shape) for name in _GRIDS[:8]):
            raise ValueError(f"its numbers must be {shape}")
    except (KeyError, TypeError, ValueError) as error:
        raise LoopscopeError(
            f"{path} lacks what probes need ({error!r}): take another copy, or fit them again."
        ) from error
    return Probes(**plain, **grids, weights=parts["weight"], biases=parts["bias"])
