"""The numbers of many probes put into grids, and the positions that are asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from . import labels as told
from .fit_grid import Plan, Result, Unit
from .linear_solver import Linear
from .sources import Source


def units_of(positions: Any, labels: told.Labels, count: int) -> list[Unit]:
    if positions is None:
        positions = "shared" if labels.per_position else "each"
    if positions == "each":
        return list(range(count))
    if positions in ("shared", "pooled"):
        if positions == "pooled" and labels.per_position and _varies(labels):
            raise LoopscopeError(
                'positions="pooled" needs one label for each example, but an example has several. Use '
                '"shared" or "each".'
            )
        return [positions]
    if isinstance(positions, str):
        raise LoopscopeError(
            f"positions must be numbers, 'each', 'shared' or 'pooled', but is {positions!r}."
        )
    chosen = [positions] if isinstance(positions, int) else list(positions)
    result = [p + count if p < 0 else p for p in chosen]
    if not result or any(not 0 <= p < count for p in result):
        raise LoopscopeError(
            f"positions must lie in 0..{count - 1}, or count from the end, but are {chosen}."
        )
    return list(dict.fromkeys(result))


def of_positions(mask: Any, like: Tensor) -> Tensor:
    """A mask of examples or positions as one of positions."""
    given = torch.as_tensor(mask).bool()
    return given[:, None].expand(like.shape) if given.ndim == 1 else given


def _varies(labels: told.Labels) -> bool:
    """Whether an example has different labels at different positions."""
    high = np.where(labels.mask, labels.values, -np.inf).max(1)
    low = np.where(labels.mask, labels.values, np.inf).min(1)
    return bool((high > low).any())


def one_hot(baseline_labels: Any, batch: int, positions: int) -> Tensor:
    """(batch, position, column) of the labels that are told."""
    several = (
        isinstance(baseline_labels, list | tuple)
        and len(baseline_labels) > 0
        and not isinstance(baseline_labels[0], int | float | str)
    )
    columns = []
    for one in baseline_labels if several else [baseline_labels]:
        checked = told.labelled(one, batch=batch, positions=positions)
        values = checked.values if checked.per_position else np.repeat(checked.values[:, None], positions, 1)
        columns.append(np.eye(checked.columns)[values] if checked.kind == "classes" else values[..., None])
    return torch.from_numpy(np.concatenate(columns, 2))


def _absent(source: Source, result: Mapping[Any, Result], units: Sequence[Unit]) -> list[str]:
    """What was left out, as sentences."""
    wanted = sum(map(len, source.iterations.values())) * len(units)
    notes = []
    if len(result) < wanted:
        notes.append(
            f"{wanted - len(result)} of {wanted} probes had too few labels, or labels all alike, and are "
            "left out."
        )
    rows = {unit: {one.rows for key, one in result.items() if key[2] == unit} for unit in units}
    if any(len(one) > 1 for one in rows.values()):
        notes.append("Rows that have left the loop are left out, so later iterations have fewer: see .rows.")
    return notes


def collected(
    source: Source,
    sites: tuple[str, ...],
    plan: Plan,
    result: Mapping[tuple[str, int, Unit], Result],
    *,
    chance: Mapping[tuple[str, int, Unit], Result],
    beyond: Mapping[tuple[str, int, Unit], Result],
) -> dict[str, Any]:
    """The fields of Probes but what its random features are."""
    units = plan.units
    iterations = sorted({k for ks in source.iterations.values() for k in ks})
    shape = (len(sites), len(iterations), len(units))
    names = ("score", "low", "high", "control", "majority")
    grids = {
        name: torch.full(shape, torch.nan, dtype=torch.float64) for name in (*names, "random", "baseline")
    }
    rows, weights, biases = torch.zeros(shape, dtype=torch.long), {}, {}
    for (site, k, unit), one in result.items():
        place = (sites.index(site), iterations.index(k), units.index(unit))
        for name in names:
            grids[name][place] = getattr(one, name)
        rows[place] = one.rows
        for name, others in (("random", chance), ("baseline", beyond)):
            same = others.get((site, k, unit)) or others.get(("given", 0, unit))
            if same is not None:
                grids[name][place] = same.score
        if one.probes:
            weights[place] = _stacked(one.probes, "weight")
            biases[place] = _stacked(one.probes, "bias")
    split, labels = plan.folding, plan.labels
    return dict(
        kind=labels.kind, sites=sites, iterations=tuple(iterations), positions=tuple(units), **grids, rows=rows,
        classes=labels.classes, groups=split.groups, folds=split.folds, seed=plan.seed,
        notes=(*split.notes, *_absent(source, result, units)), origin=dict(source.origin),
        identity=torch.from_numpy(split.identity.copy()),
        fold=torch.from_numpy(split.fold.copy()), labels=torch.from_numpy(labels.values.copy()),
        mask=torch.from_numpy(labels.mask.copy()), weights=weights, biases=biases,
    )  # fmt: skip


def _stacked(probes: Sequence[Linear], name: str) -> Tensor:
    return torch.from_numpy(np.stack([getattr(one, name) for one in probes]))
