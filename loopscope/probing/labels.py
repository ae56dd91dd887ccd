"""Labels of probes: one for each example or for each of its positions, and control labels."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy import ndarray as Array
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.reading import regular_file

Kind = Literal["classes", "numbers"]
MOST_CLASSES = 200
IGNORED = -100
"""PyTorch's `ignore_index`: the class that says that there is no label."""


@dataclass(frozen=True)
class ProbeLabels:
    """Checked labels."""

    kind: Kind
    values: Array
    """(batch) or (batch, position): the number of the class, or the number itself."""
    mask: Array
    """Of the same shape: where there is a label."""
    classes: tuple[Any, ...]
    """The class of each class number; empty for numbers."""
    notes: tuple[str, ...] = ()
    """Sentences about labels that were left out."""

    @property
    def centre(self) -> float:
        """The median of numbers, about which sums of their squares lose no digits, however large
        the numbers are (timestamps); 0 for classes."""
        return float(np.median(self.values[self.mask])) if self.kind == "numbers" else 0.0

    @property
    def per_position(self) -> bool:
        """Whether each position has a label."""
        return self.values.ndim == 2

    @property
    def columns(self) -> int:
        """Outputs of a probe: one for each class, or one number."""
        return len(self.classes) if self.kind == "classes" else 1

    def one(self, example: int) -> Any:
        """The label of an example, as the user passed it."""
        value = self.values[example]
        return self.classes[int(value)] if self.kind == "classes" else float(value)


def checked_labels(
    labels: Any, *, mask: Any = None, kind: Kind | None = None, batch: int, positions: int
) -> ProbeLabels:
    """Labels as arrays.

    Arguments:
        labels: (batch) or (batch, position). Whole numbers, bools and words are classes, real
            numbers are numbers. Classes of -100 (PyTorch's `ignore_index`) and numbers that are NaN
            are no labels: they are left out, and `notes` says so.
        mask: where they hold, (batch) or (batch, position); a mask of positions gives labels of
            examples their positions.
        kind: "classes" or "numbers", where the type of the labels is ambiguous.
        batch, positions: of the run.

    Raises:
        LoopscopeError: another shape or kind, labels that don't vary, or too many classes.
    """
    values = _array(labels, "labels")
    if (
        values.ndim not in (1, 2)
        or len(values) != batch
        or (values.ndim == 2 and values.shape[1] != positions)
    ):
        raise LoopscopeError(
            f"labels must be of the shape ({batch},), one for each example, or ({batch}, {positions}), one "
            f"for each position, but are {values.shape}. Give each example of the run its label."
        )
    if kind not in (None, "classes", "numbers"):
        raise LoopscopeError(f"kind must be 'classes' or 'numbers', but is {kind!r}.")
    kind = kind or ("numbers" if values.dtype.kind == "f" else "classes")
    mask = _mask(mask, values, batch, positions)
    if mask.ndim < values.ndim:
        mask = np.broadcast_to(mask[:, None], values.shape)
    if values.ndim < mask.ndim:
        values = np.broadcast_to(values[:, None], mask.shape)
    if not mask.any():
        raise LoopscopeError("there must be labels to learn, but the mask leaves none. Look at mask=.")
    absent, what = _absent(values, kind)
    left_out = int((absent & mask).sum())
    if left_out and left_out < int(mask.sum()):
        notes = (f"{left_out} labels of {what} are left out.",)
        mask = mask & ~absent
    else:
        notes = ()
    checked = _numbers(values, mask) if kind == "numbers" else _classes(values, mask)
    return replace(checked, notes=notes)


def mask_decides(mask: Any) -> bool:
    """Whether a mask of labels says for each position whether it counts, in place of the run's."""
    return mask is not None and getattr(mask, "ndim", np.ndim(mask)) == 2


def _absent(values: Array, kind: str) -> tuple[Array, str]:
    """Where labels say that there is none, and how."""
    if kind == "classes" and values.dtype.kind in "if":
        unknown = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
        return unknown | (values == IGNORED), f"{IGNORED} (PyTorch's ignore_index)"
    if kind == "numbers" and values.dtype.kind == "f":
        return np.isnan(values), "NaN"
    return np.zeros(values.shape, bool), ""


def _mask(mask: Any, values: Array, batch: int, positions: int) -> Array:
    result = np.ones(values.shape, bool) if mask is None else _array(mask, "mask").astype(bool)
    if result.shape not in ((batch,), (batch, positions)):
        raise LoopscopeError(
            f"mask must be of the shape ({batch},) or ({batch}, {positions}), but is {result.shape}. True "
            "says where labels hold."
        )
    return result


def _numbers(values: Array, mask: Array) -> ProbeLabels:
    values = values.astype(float)
    if not np.isfinite(values[mask]).all():
        raise LoopscopeError(
            "labels must be finite, but hold NaN or infinity. Leave them out: mask=labels.isfinite()."
        )
    if np.ptp(values[mask]) == 0:
        raise LoopscopeError(f"labels must vary to be learned, but all are {values[mask][0]:g}.")
    return ProbeLabels("numbers", np.where(mask, values, 0.0), mask, ())


def _classes(values: Array, mask: Array) -> ProbeLabels:
    if values.dtype.kind == "f" and not (values[mask] == np.round(values[mask])).all():
        raise LoopscopeError('classes must be whole numbers, but the labels are not. Pass kind="numbers".')
    classes, numbers = np.unique(values[mask], return_inverse=True)
    if len(classes) < 2:
        raise LoopscopeError(
            f"labels must be of two classes or more to be separated, but all are {classes[0]!s}."
        )
    if len(classes) > MOST_CLASSES:
        raise LoopscopeError(
            f"labels must be of at most {MOST_CLASSES} classes, but are of {len(classes)}. If they are "
            'quantities, pass kind="numbers".'
        )
    result = np.zeros(mask.shape, int)
    result[mask] = numbers.reshape(-1)
    return ProbeLabels("classes", result, mask, tuple(classes.tolist()))


def read_labels(path: str | os.PathLike[str]) -> tuple[Tensor, Tensor | None]:
    """The tensors `labels` and, if it is there, `mask` of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = regular_file(path, "a safetensors file with the tensor labels")
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError, ValueError, TypeError, RuntimeError, KeyError) as error:
        raise LoopscopeError(
            f"{path} must be a safetensors file with the tensor labels, but can't be read ({error})."
        ) from None
    if "labels" not in tensors:
        raise LoopscopeError(f"{path} must hold the tensor labels, but holds {sorted(tensors)}.")
    return tensors["labels"], tensors.get("mask")


def shuffled_labels(labels: ProbeLabels, group: Array, seed: int, count: int) -> Array:
    """Control labels (count, batch[, position]): the same labels, permuted between examples.

    Whole examples are permuted, so that the class frequencies at each position and the dependencies
    within an example are kept. Where examples have labels at different positions, those with a
    label at a position are permuted there.

    Source: control tasks, Hewitt & Liang 2019 (arXiv 1909.03368). A probe's score on them does not
    come from the content of the states.
    """
    generator, result = np.random.default_rng([seed, 7]), []
    values, mask = (a if labels.per_position else a[:, None] for a in (labels.values, labels.mask))
    for _ in range(count):
        place = generator.permutation(int(group.max()) + 1)[group]  # whole groups are permuted
        control = values.copy()
        for p in range(values.shape[1]):
            here = np.flatnonzero(mask[:, p])
            control[here, p] = values[here[np.argsort(place[here], kind="stable")], p]
        result.append(control if labels.per_position else control[:, 0])
    return np.stack(result) if result else np.empty((0, *labels.values.shape))


def token_type_labels(labels: ProbeLabels, tokens: Tensor, seed: int, count: int) -> Array:
    """Control labels (count, batch, position) of Hewitt & Liang 2019: one random label for each
    token type. A probe's score on them is its capacity to memorise token types.

    Raises:
        LoopscopeError: the labels are of examples, not of positions.
    """
    if not labels.per_position:
        raise LoopscopeError(
            'control="tokens" gives each token its label, so the labels must be (batch, position), but '
            'there is one for each example. Use control="shuffled".'
        )
    generator, result = np.random.default_rng([seed, 8]), []
    words = np.unique(tokens.cpu().numpy(), return_inverse=True)[1].reshape(tokens.shape)
    for _ in range(count):
        result.append(generator.choice(labels.values[labels.mask], int(words.max()) + 1)[words])
    return np.stack(result) if result else np.empty((0, *labels.values.shape))


def _array(values: Any, name: str) -> Array:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return (values.double() if values.dtype.is_floating_point else values).numpy()
    if isinstance(values, Array | Sequence) and not isinstance(values, str):
        result = np.asarray(values)
        if result.dtype.kind in "biufU":
            return result
    raise LoopscopeError(
        f"{name} must be a tensor, an array or a list of numbers or words, but got {type(values).__name__}."
    )
