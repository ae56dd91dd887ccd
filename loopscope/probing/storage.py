"""Files of probes: safetensors with a JSON header. Nothing is unpickled."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.checked_fields import Count, Whole, checked_fields
from ..common.errors import LoopscopeError
from ..common.files import load_file, save_file
from .labels import Kind
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
_SCORES = _TENSORS[:8]
"""Those that have a number for every probe."""
_SETTINGS = (*SETTINGS, "origin")
_REMEDY = "Take another copy, or fit them again."


@dataclass(frozen=True)
class ProbesHeader:
    """What the header of probes says; `labels` is their kind."""

    labels: Kind
    sites: tuple[str, ...]
    iterations: tuple[Count, ...]
    positions: tuple[Whole | str, ...]
    classes: tuple[int | float | str | bool, ...]
    groups: Count
    folds: Count
    seed: Whole
    features: str
    notes: tuple[str, ...]
    origin: dict[str, Any]


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
    about = checked_fields(ProbesHeader, header, os.fspath(path), _REMEDY)
    parts: dict[str, dict[tuple[int, ...], Tensor]] = {"weight": {}, "bias": {}}
    for key, value in tensors.items():
        kind, _, place = key.partition("/")
        if kind in parts and (index := _place(place)):
            parts[kind][index] = value
    numbers = {name: tensors.get(name, torch.empty(0)) for name in _TENSORS}
    if why := _misfit(about, numbers, parts) or _missing(tensors):
        raise LoopscopeError(f"{path} lacks what probes need: {why}. {_REMEDY}")
    settings = {name: getattr(about, name) for name in _SETTINGS if name != "kind"} | {"kind": about.labels}
    return {**settings, **numbers, "weights": parts["weight"], "biases": parts["bias"]}


def _missing(tensors: Mapping[str, Tensor]) -> str:
    missing = [name for name in _TENSORS if name not in tensors]
    return f"{missing[0]} is not there" if missing else ""


def _place(text: str) -> tuple[int, ...]:
    """The index (site, iteration, position) in a tensor's name; empty if it is none."""
    parts = text.split("/")
    is_place = len(parts) == 3 and all(re.fullmatch("[0-9]{1,9}", part) for part in parts)
    return tuple(map(int, parts)) if is_place else ()


def _misfit(
    about: ProbesHeader,
    numbers: Mapping[str, Tensor],
    parts: Mapping[str, Mapping[tuple[int, ...], Tensor]],
) -> str:
    """What is wrong with the tensors; empty if nothing is."""
    shape = (len(about.sites), len(about.iterations), len(about.positions))
    if 0 in shape:
        return "there is no site, no iteration or no position"
    for name in _SCORES:
        if tuple(numbers[name].shape) != shape:
            return f"{name} must have the shape {shape}, but has {tuple(numbers[name].shape)}"
        if name != "rows" and not numbers[name].is_floating_point():
            return f"{name} must be of floating-point numbers, but is of {numbers[name].dtype}"
    batch = numbers["labels"].shape[:1]
    if any(numbers[n].shape[:1] != batch or numbers[n].dtype != torch.int64 for n in ("identity", "fold")):
        return "identity and fold must be whole numbers, one for each example"
    if numbers["labels"].shape != numbers["mask"].shape or numbers["mask"].dtype != torch.bool:
        return "the mask must say of every label whether it counts"
    if parts["weight"].keys() != parts["bias"].keys():
        return "a probe has weights without a bias, or a bias without weights"
    columns = len(about.classes) or 1
    for place, weight in parts["weight"].items():
        bias = parts["bias"][place]
        if any(index >= size for index, size in zip(place, shape, strict=True)):
            return f"the probe {place} is of no site, iteration and position"
        if weight.ndim != 3 or bias.shape != (len(weight), weight.shape[2]) or weight.dtype != bias.dtype:
            return f"the probe {place} has weights {tuple(weight.shape)} and a bias {tuple(bias.shape)}"
        if weight.shape[2] not in (columns, 1) or not weight.is_floating_point():
            return f"the probe {place} must have {columns} columns, but has {weight.shape[2]}"
    return ""
