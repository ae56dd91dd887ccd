"""Folds without leaks: equal inputs are in one group, and a group is never on both sides of a
split."""

import hashlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from numpy import ndarray as Array
from torch import Tensor

from ..common.errors import LoopscopeError, LoopscopeWarning
from ..tasks import Task
from .labels import ProbeLabels

FEWEST = 2
"""Groups that each fold must have at least, on average."""


@dataclass(frozen=True)
class Folding:
    """Which examples are held out together."""

    identity: Array
    """(batch) int64: a hash of each example's input; equal inputs have equal ones."""
    group: Array
    """(batch): the number of its group, 0..groups-1."""
    fold: Array
    """(batch): the fold in which it is held out, 0..folds-1."""
    notes: tuple[str, ...]
    """Sentences about how the groups were formed."""

    @property
    def groups(self) -> int:
        """Number of groups."""
        return int(self.group.max()) + 1

    @property
    def folds(self) -> int:
        """Number of folds."""
        return int(self.fold.max()) + 1


def input_hashes(
    tokens: Any, batch: int, task: Task | None = None, mask: Bool[Tensor, "batch position"] | None = None
) -> tuple[Array, Array]:
    """Two hashes of each example, (batch) each: of its input, and of what the task treats as the
    same example (a Sudoku with its digits renamed). Without tokens all examples differ.

    Arguments:
        mask: which positions of the input count; None: all. Padding is no part of an example.
    """
    if not isinstance(tokens, Tensor) or len(tokens) != batch:
        return np.arange(batch), np.arange(batch)
    exact = _hashes(tokens, mask)
    if task is None:
        return exact, exact
    try:
        return exact, _hashes(task.canonical_form(task.check_tokens(tokens.cpu())))
    except LoopscopeError:  # tokens of another kind
        return exact, exact


def folding(
    labels: ProbeLabels, identity: Array, same: Array, *, groups: Any = None, folds: Any = 5, seed: int = 0
) -> Folding:
    """Groups and folds of a run's examples.

    Arguments:
        identity, same: as `input_hashes` returns them.
        groups: (batch) of numbers or words: examples of one group stay on one side of a split.
            Groups with equal inputs are joined.
        folds: how many, or (batch) of fold numbers.
        seed: of the division.

    Raises:
        LoopscopeError: explicit folds that put equal inputs, or one group, on both sides; too
            few groups; a class in fewer groups than there are folds.
    """
    batch, notes = len(identity), []
    joined = _joined([same] if groups is None else [same, _per_example(groups, batch)])
    count = int(joined.max()) + 1
    if groups is None and count < batch:
        notes.append(
            f"{batch} examples make {count} groups: equal inputs, or inputs that the task treats as equal, "
            "stay on one side."
        )
    elif groups is not None and count < len(np.unique(_per_example(groups, batch))):
        note = "Some of the groups held equal inputs and were joined, as a split between them would leak."
        notes.append(note)
        warnings.warn(note, LoopscopeWarning, stacklevel=4)
    if not isinstance(folds, int | np.integer):
        return Folding(identity, joined, _explicit_folds(folds, joined, batch), tuple(notes))
    if isinstance(folds, bool) or folds < 2:
        raise LoopscopeError(f"folds must be 2 or more, but is {folds!r}.")
    if count < FEWEST * folds:
        raise LoopscopeError(
            f"{folds} folds need {FEWEST * folds} groups of examples or more, but there are {count} (of "
            f"{batch} examples). Record more examples, or pass fewer folds=."
        )
    _check_classes(labels, joined, int(folds))
    return Folding(identity, joined, _folds(labels, joined, int(folds), seed), tuple(notes))


def _folds(labels: ProbeLabels, group: Array, folds: int, seed: int) -> Array:
    """A random fold for each group, stratified where each group has one class."""
    from sklearn.model_selection import KFold, StratifiedKFold

    groups = int(group.max()) + 1
    of_group, kinds = np.zeros(groups, int), np.zeros(groups)
    splitter = KFold(folds, shuffle=True, random_state=seed)
    if labels.kind == "classes" and not labels.per_position:
        kinds[group] = labels.values
        if (kinds[group] == labels.values)[labels.mask].all():
            kinds = np.where(np.isin(np.arange(groups), group[labels.mask]), kinds, len(labels.classes))
            splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the groups without a label, which may be few
        for number, (_, test) in enumerate(splitter.split(of_group, kinds)):
            of_group[test] = number
    return of_group[group]


def _explicit_folds(folds: Any, group: Array, batch: int) -> Array:
    """The user's folds, checked for leaks."""
    fold = np.unique(_per_example(folds, batch, "folds"), return_inverse=True)[1].reshape(-1)
    if fold.max() < 1:
        raise LoopscopeError("explicit folds must be two or more, but all examples are in one.")
    pairs = np.unique(np.stack([group, fold]), axis=1)
    counts = np.bincount(pairs[0])
    if (counts > 1).any():
        one = int(np.flatnonzero(counts > 1)[0])
        where = np.flatnonzero(group == one)
        first, second = where[0], next(i for i in where if fold[i] != fold[where[0]])
        raise LoopscopeError(
            f"a split must keep equal inputs and groups on one side, but examples {first} and {second} are "
            f"equal or of one group and stand in the folds {fold[first]} and {fold[second]} "
            f"({int((counts > 1).sum())} groups in all leak). Put them in one fold, or pass the number of "
            "folds only."
        )
    return fold


def _check_classes(labels: ProbeLabels, group: Array, folds: int) -> None:
    if labels.kind != "classes":
        return
    rows = np.nonzero(labels.mask)
    classes = np.unique(np.stack([labels.values[rows], group[rows[0]]]), axis=1)[0]
    counts = np.bincount(classes, minlength=len(labels.classes))
    if (counts < folds).any():
        rare = int(counts.argmin())
        raise LoopscopeError(
            f"each class must come in {folds} groups of examples or more, one for each fold, but class "
            f"{labels.classes[rare]!r} comes in {counts[rare]}. Record more examples, leave it out by "
            "mask=, or pass fewer folds=."
        )


def _per_example(values: Any, batch: int, name: str = "groups") -> Array:
    result = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if result.shape != (batch,):
        raise LoopscopeError(f"{name} must be ({batch},), one for each example, but are {result.shape}.")
    return result


def _joined(keys: list[Array]) -> Array:
    """Group numbers: examples that share any key are in one group."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    batch = len(keys[0])
    start, stop, nodes = [], [], batch
    for key in keys:
        number = np.unique(key, return_inverse=True)[1].reshape(-1)
        start.append(np.arange(batch))
        stop.append(nodes + number)
        nodes += int(number.max()) + 1
    edges = (np.ones(batch * len(keys)), (np.concatenate(start), np.concatenate(stop)))
    component = connected_components(coo_array(edges, shape=(nodes, nodes)), directed=False)[1][:batch]
    return np.unique(component, return_inverse=True)[1].reshape(-1)


def _hashes(rows: Tensor, mask: Tensor | None = None) -> Array:
    rows = rows.detach().cpu()
    rows = (rows.float() if rows.dtype.is_floating_point else rows.long()).contiguous()
    if mask is None or rows.shape[:2] != mask.shape:
        mask = torch.ones(len(rows), rows[0].numel() if rows.ndim < 3 else rows.shape[1], dtype=torch.bool)
    rows = rows.reshape(*mask.shape, -1)
    digests = (
        hashlib.blake2b(row[counted].numpy().tobytes(), digest_size=8).digest()
        for row, counted in zip(rows, mask, strict=True)
    )
    return np.frombuffer(b"".join(digests), dtype=np.int64)
