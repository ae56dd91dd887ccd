"""Files of tuned lenses: safetensors with a JSON header. Nothing is unpickled."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.checked_fields import Count, checked_fields
from ..common.errors import LoopscopeError
from ..common.files import load_file, save_file
from .translator import KL_GAIN_TENSORS, KLGain, Translator
from .tuned_lens_training import ReadOutName

_PARTS = ("a", "b", "active", *KL_GAIN_TENSORS)
_REMEDY = "Take another copy, or fit it again."


@dataclass(frozen=True)
class StoredTraining:
    """What is read of the settings of the training."""

    shared: bool
    held: Count
    examples: Count
    positions: str


@dataclass(frozen=True)
class LensHeader:
    """The header."""

    read: ReadOutName
    places: dict[str, tuple[Count, ...]]
    """The iterations of every place."""
    model: tuple[str, str]
    training: dict[str, Any]


def save_fields(lens: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write the fields of a tuned lens as one file; returns its path."""
    tensors: dict[str, Tensor] = {}
    for number, (label, translator) in enumerate(lens["translators"].items()):
        parts = {name: getattr(translator, name) for name in ("a", "b", "active")}
        parts |= {name: getattr(lens["kl"][label], name) for name in KL_GAIN_TENSORS}
        tensors |= {f"{number}/{name}": value for name, value in parts.items()}
    header = {
        "kind": "tuned lens",
        "read": lens["read"],
        "places": {label: list(one.iterations) for label, one in lens["translators"].items()},
        "model": list(lens["model"]),
        "training": lens["training"],
    }
    return save_file(path, tensors, header)


def load_fields(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields of a tuned lens that `save_fields` wrote.

    Raises:
        LoopscopeError: the file is missing, damaged, of another kind, or incomplete.
    """
    tensors, header = load_file(path, kind="tuned lens")
    about = checked_fields(LensHeader, header, os.fspath(path), _REMEDY)
    checked_fields(StoredTraining, about.training, f"{path}, training,", _REMEDY)
    translators, kl = {}, {}
    for number, (label, iterations) in enumerate(about.places.items()):
        parts = {name: tensors[f"{number}/{name}"] for name in _PARTS if f"{number}/{name}" in tensors}
        if why := _misfit(parts, len(iterations)):
            raise LoopscopeError(
                f"{path} lacks what a tuned lens needs: at the place {label[:80]!r} {why}. {_REMEDY}"
            )
        translators[label] = Translator(iterations, *(parts[name] for name in ("a", "b", "active")))
        kl[label] = KLGain(iterations, *(parts[name] for name in KL_GAIN_TENSORS))
    return {
        "read": about.read,
        "translators": translators,
        "kl": kl,
        "model": about.model,
        "training": about.training,
    }


def _misfit(present: Mapping[str, Tensor], count: int) -> str:
    """What is wrong with the tensors of a place of `count` iterations; empty if nothing is."""
    if missing := [name for name in _PARTS if name not in present]:
        return f"{missing[0]} is not there"
    a, b, active = present["a"], present["b"], present["active"]
    if a.ndim != 3 or a.shape[1] != a.shape[2] or len(a) not in (1, count) or b.shape != a.shape[:2]:
        return f"the map has the shapes {tuple(a.shape)} and {tuple(b.shape)} for {count} iterations"
    if not a.is_floating_point() or a.dtype != b.dtype or active.dtype != torch.bool:
        return f"the map is of {a.dtype}, {b.dtype} and {active.dtype}"
    if any(present[name].shape != (count,) for name in ("active", *KL_GAIN_TENSORS)):
        return f"a number for each of the {count} iterations is not there"
    is_exact = all(present[name].is_floating_point() for name in KL_GAIN_TENSORS)
    return "" if is_exact else "the KL divergences are no floating-point numbers"
