"""The scores of many probes as grids (site, iteration, position), and the positions to probe."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..common.errors import LoopscopeError
from .fit_linear import LinearMap
from .labels import ProbeLabels, checked_labels
from .score_tally import ProbePlan, ProbeScore, Unit
from .sources import ANY, FeatureSource


def position_units(positions: Any, labels: ProbeLabels, count: int) -> list[Unit]:
    """The unit of each probe: a position, "shared" or "pooled".

    Arguments:
        positions: as of `Probes.fit`.
        count: positions of the states.

    Raises:
        LoopscopeError: a position that isn't there, an unknown word, or "pooled" for examples with
            several labels.
    """
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
    numbers = [positions] if isinstance(positions, int) else list(positions)
    result = [p + count if p < 0 else p for p in numbers]
    if not result or any(not 0 <= p < count for p in result):
        raise LoopscopeError(
            f"positions must lie in 0..{count - 1}, or count from the end, but are {numbers}."
        )
    return list(dict.fromkeys(result))


def mask_of_positions(mask: Any, like: Bool[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
    """A mask of examples or positions as a mask of positions."""
    result = torch.as_tensor(mask).bool()
    return result[:, None].expand(like.shape) if result.ndim == 1 else result


def _varies(labels: ProbeLabels) -> bool:
    """Whether an example has different labels at different positions."""
    high = np.where(labels.mask, labels.values, -np.inf).max(1)
    low = np.where(labels.mask, labels.values, np.inf).min(1)
    return bool((high > low).any())


def one_hot(baseline_labels: Any, batch: int, positions: int) -> Float[Tensor, "batch position column"]:
    """The baseline labels as features: classes one-hot, numbers as they are."""
    several = (
        isinstance(baseline_labels, list | tuple)
        and len(baseline_labels) > 0
        and not isinstance(baseline_labels[0], int | float | str)
    )
    columns = []
    for labels in baseline_labels if several else [baseline_labels]:
        checked = checked_labels(labels, batch=batch, positions=positions)
        values = checked.values if checked.per_position else np.repeat(checked.values[:, None], positions, 1)
        columns.append(np.eye(checked.columns)[values] if checked.kind == "classes" else values[..., None])
    return torch.from_numpy(np.concatenate(columns, 2))


def _omissions(source: FeatureSource, result: Mapping[Any, ProbeScore], units: Sequence[Unit]) -> list[str]:
    """Sentences about the probes and rows that were left out."""
    total = sum(map(len, source.iterations.values())) * len(units)
    notes = []
    if len(result) < total:
        notes.append(
            f"{total - len(result)} of {total} probes had too few labels, or labels all alike, and are "
            "left out."
        )
    rows = {unit: {score.rows for key, score in result.items() if key[2] == unit} for unit in units}
    if any(len(counts) > 1 for counts in rows.values()):
        notes.append("Rows that have halted leave the batch, so later iterations have fewer: see .rows.")
    return notes


def assembled_fields(
    source: FeatureSource,
    sites: tuple[str, ...],
    plan: ProbePlan,
    result: Mapping[tuple[str, int, Unit], ProbeScore],
    *,
    random: Mapping[tuple[str, int, Unit], ProbeScore],
    baseline: Mapping[tuple[str, int, Unit], ProbeScore],
) -> dict[str, Any]:
    """The fields of `ProbeResult`, but for the description of its random features."""
    units = plan.units
    iterations = sorted({k for ks in source.iterations.values() for k in ks})
    shape = (len(sites), len(iterations), len(units))
    names = ("score", "low", "high", "control", "majority")
    grids = {
        name: torch.full(shape, torch.nan, dtype=torch.float64) for name in (*names, "random", "baseline")
    }
    rows, weights, biases = torch.zeros(shape, dtype=torch.long), {}, {}
    for (site, k, unit), score in result.items():
        index = (sites.index(site), iterations.index(k), units.index(unit))
        for name in names:
            grids[name][index] = getattr(score, name)
        rows[index] = score.rows
        for name, others in (("random", random), ("baseline", baseline)):
            same = others.get((site, k, unit)) or others.get((ANY, 0, unit))
            if same is not None:
                grids[name][index] = same.score
        if score.probes:
            weights[index] = _stacked(score.probes, "weight")
            biases[index] = _stacked(score.probes, "bias")
    split, labels = plan.folding, plan.labels
    return dict(
        kind=labels.kind, sites=sites, iterations=tuple(iterations), positions=tuple(units), **grids,
        rows=rows, classes=labels.classes, groups=split.groups, folds=split.folds, seed=plan.seed,
        notes=(*labels.notes, *split.notes, *_omissions(source, result, units)), origin=dict(source.origin),
        identity=torch.from_numpy(split.identity.copy()),
        fold=torch.from_numpy(split.fold.copy()), labels=torch.from_numpy(labels.values.copy()),
        mask=torch.from_numpy(labels.mask.copy()), weights=weights, biases=biases,
    )  # fmt: skip


def _stacked(probes: Sequence[LinearMap], name: str) -> Tensor:
    return torch.from_numpy(np.stack([getattr(probe, name) for probe in probes]))
