"""Whether two results of one measure say the same of the positions that count, wherever these stand
in their rows."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, get_type_hints

import torch
from torch import Tensor

POSITIONS = {"position", "positions"}
"""Fields that hold numbers of positions."""
PLACES = {"trajectories", "example"}
"""Fields that hold (example, position)."""


def differences(one: Any, other: Any, shift: int, where: str = "", axes: str = "") -> list[str]:
    """What differs, by its place in the results.

    Arguments:
        other: of the same positions, each `shift` further from the beginning of its row.
        axes: the names of the axes of a tensor.
    """
    name = where.rpartition(".")[2].partition("[")[0]
    if one is None or isinstance(one, str | Enum | bool):
        # sentences quote numbers in full, so that rounding could change them
        return [] if one == other or (isinstance(one, str) and not isinstance(one, Enum)) else [where]
    if isinstance(one, Tensor):
        return _tensors(one, other, shift, where, axes.split())
    if isinstance(one, float | int):
        moved = shift if name in POSITIONS else 0
        return [] if math.isclose(one + moved, other, rel_tol=1e-5, abs_tol=1e-5) or one != one else [where]
    if is_dataclass(one):
        hints = get_type_hints(type(one))
        return [
            line
            for f in fields(one)
            for line in differences(
                getattr(one, f.name),
                getattr(other, f.name),
                shift,
                f"{where}.{f.name}",
                getattr(hints.get(f.name), "dim_str", ""),
            )
        ]
    if isinstance(one, Mapping):
        pairs = [(f"{where}[{key}]", one[key], other[key]) for key in one]
        return [line for place, a, b in pairs for line in differences(a, b, shift, place)]
    if isinstance(one, list | tuple):
        if one and all(isinstance(word, str) for word in one) and len(one) != len(other):
            one, other = list(one), list(other[shift : shift + len(one)])  # one for each position
            return [] if one == other else [where]
        if len(one) != len(other):
            return [f"{where}: {len(one)} and {len(other)}"]
        if name in PLACES and all(isinstance(n, int) for n in one):
            return [] if (one[0], one[1] + shift) == tuple(other) else [where]
        return [
            line
            for i, (a, b) in enumerate(zip(one, other, strict=True))
            for line in differences(a, b, shift, f"{where}[{i}]")
        ]
    return [f"{where}: a {type(one).__name__} can't be compared"]


def _tensors(one: Tensor, other: Tensor, shift: int, where: str, axes: list[str]) -> list[str]:
    if where.rpartition(".")[2] in POSITIONS:
        one = one + shift
    if "position" in axes and one.shape != other.shape:  # equal where it lists only those that count
        axis = axes.index("position") - len(axes)
        length = one.shape[axis]
        beside = torch.ones(other.shape[axis], dtype=torch.bool)
        beside[shift : shift + length] = False
        outside = other.index_select(axis, beside.nonzero()[:, 0])
        if outside.is_floating_point() and not bool(outside.isnan().all()):
            return [f"{where}: has values at padding"]
        other = other.narrow(axis, shift, length)
    if one.shape != other.shape:
        return [f"{where}: {tuple(one.shape)} and {tuple(other.shape)}"]
    if not (one.is_floating_point() or one.is_complex()):
        return [] if torch.equal(one, other) else [where]
    close = torch.isclose(one, other.to(one), rtol=1e-5, atol=1e-5, equal_nan=True)
    gap = (one - other).abs().nan_to_num()
    off = float(gap.max()) if gap.numel() else 0.0
    return [] if bool(close.all()) else [f"{where}: off by {off:.3g}"]
