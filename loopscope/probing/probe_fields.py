"""What `Probes.fit` computes: labels, folds, probes of the states, and their controls."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from numpy import ndarray as Array
from torch import Tensor

from ..common.errors import LoopscopeError
from ..recorder.labels import task_of
from ..runs.run import Run
from ..tasks import Task
from .assemble import assembled_fields, mask_of_positions, one_hot, position_units
from .fit_grid import fit_grid
from .folds import Folding, folding, input_hashes
from .inputs import source_and_labels
from .labels import (
    Kind,
    ProbeLabels,
    checked_labels,
    mask_decides,
    shuffled_labels,
    token_type_labels,
)
from .random_features import RandomFeatures, random_source
from .score_tally import ProbePlan
from .sources import ArraySource, FeatureSource
from .task_facts import fact_labels


def fit_fields(
    run: Any,
    labels: Any,
    *,
    mask: Any,
    sites: str | Sequence[str],
    iterations: Sequence[int] | None,
    positions: Any,
    groups: Any,
    baseline_labels: Any,
    kind: Kind | None,
    folds: Any,
    controls: int,
    control: str,
    random: RandomFeatures | Run | bool | None,
    estimator: Any,
    seed: int,
    model: Any,
) -> dict[str, Any]:
    """The fields of `ProbeResult`; the arguments are those of `Probes.fit`.

    Raises:
        LoopscopeError: labels that don't fit, a split that leaks, too few groups.
    """
    sites = (sites,) if isinstance(sites, str) else tuple(sites)
    if not sites:
        raise LoopscopeError("probes need one site or more, but sites is empty. Pass e.g. sites='state'.")
    source, values, held = source_and_labels(run, labels, mask, sites, iterations=iterations, model=model)
    counted = None if source.mask is None or mask_decides(held) else source.mask.numpy()
    checked = _labels(source, values, held, kind, counted=counted)
    units = position_units(positions, checked, _position_count(source))
    exact, same = input_hashes(source.tokens, source.batch, _task(source), source.mask)
    split = folding(checked, exact, same, groups=groups, folds=folds, seed=seed)
    control_labels = _control_labels(source, checked, split, control, count=controls, seed=seed)
    plan = ProbePlan(checked, control_labels, split, units, estimator, seed, counted)
    return _scores(source, sites, plan, baseline_labels=baseline_labels, random=random)


def _labels(
    source: FeatureSource, values: Any, mask: Any, kind: Kind | None, *, counted: Array | None
) -> ProbeLabels:
    """The checked labels; a name is that of a fact of the task. Labels of positions hold only where
    positions count."""
    if isinstance(values, str):
        values, held = fact_labels(_task(source), source.tokens, values)
        mask = held if mask is None else held & mask_of_positions(mask, held)
    positions = _position_count(source)
    checked = checked_labels(values, mask=mask, kind=kind, batch=source.batch, positions=positions)
    if counted is None or not checked.per_position or counted.shape != checked.mask.shape:
        return checked
    return checked_labels(
        values, mask=checked.mask & counted, kind=kind, batch=source.batch, positions=positions
    )


def _position_count(source: FeatureSource) -> int:
    if len(set(source.positions.values())) > 1:
        raise LoopscopeError(
            f"all sites must have as many positions, but have {source.positions}. Probe them one by one."
        )
    return max(source.positions.values())


def _control_labels(
    source: FeatureSource, labels: ProbeLabels, split: Folding, control: str, *, count: int, seed: int
) -> Array:
    """(control, batch[, position])"""
    if control not in ("shuffled", "tokens"):
        raise LoopscopeError(f"control must be 'shuffled' or 'tokens', but is {control!r}.")
    if control == "shuffled" or not isinstance(source.tokens, Tensor):
        return shuffled_labels(labels, split.group, seed, count)
    tokens, mask = source.tokens, source.mask
    if mask is not None and tokens.shape == mask.shape:  # padding is no type of token
        tokens = tokens.where(mask.to(tokens.device), tokens[mask.to(tokens.device)][0])
    return token_type_labels(labels, tokens, seed, count)


def _scores(
    source: FeatureSource,
    sites: tuple[str, ...],
    plan: ProbePlan,
    *,
    baseline_labels: Any,
    random: RandomFeatures | Run | bool | None,
) -> dict[str, Any]:
    """Probes of the states, of random features and of the baseline labels, as fields."""
    of_states = fit_grid(source, plan)
    if not of_states:
        raise LoopscopeError(
            "no probe could be trained: at each position the labels are too few or all alike. Look at mask= "
            "and positions=."
        )
    without_controls = replace(plan, controls=plan.controls[:0])
    features, of_random = "none, as random=False", {}
    if random is not False:
        kind = None if random in (None, True) else random
        made, features = random_source(source, sites, plan.seed, kind)
        of_random = fit_grid(made, without_controls) if made is not None else {}
    of_baseline = {}
    if baseline_labels is not None:
        columns = one_hot(baseline_labels, source.batch, _position_count(source))
        of_baseline = fit_grid(ArraySource(columns), without_controls)
    fields = assembled_fields(source, sites, plan, of_states, random=of_random, baseline=of_baseline)
    return fields | {"features": features}


def _task(source: FeatureSource) -> Task | None:
    """The task whose examples these are; it says which of them are equal."""
    run = getattr(source, "run", None)
    return task_of(run) if run is not None else getattr(source.model, "task", None)
