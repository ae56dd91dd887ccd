"""The input of `Probes.fit` (a run, a file, several runs) as a source of features with labels."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..runs.run import Run
from .file_source import FileSource
from .sources import FeatureSource, RunSource, RunsSource


def source_and_labels(
    run: Any, labels: Any, mask: Any, sites: Sequence[str], *, iterations: Sequence[int] | None, model: Any
) -> tuple[FeatureSource, Any, Any]:
    """(source, labels, mask); the labels of several runs are concatenated.

    Raises:
        LoopscopeError: no labels, or runs that can be read only once.
    """
    if isinstance(run, Run):
        return RunSource(run, sites, iterations), _needed(labels), mask
    if isinstance(run, str | os.PathLike):
        return FileSource(run, sites, iterations, model), _needed(labels), mask
    if labels is not None:
        raise LoopscopeError(
            "with several runs each brings its labels: pass pairs (run, labels), and leave labels= out."
        )
    pairs = _again(run)
    parts = [_pair(one) for one in _labels_of(pairs)]
    masks = [part[1] for part in parts]
    return (
        RunsSource(lambda: (_checked(one)[0] for one in pairs()), sites, iterations),
        _cat([part[0] for part in parts]),
        mask if all(one is None for one in masks) else _cat(masks),
    )


def _needed(labels: Any) -> Any:
    if labels is None:
        raise LoopscopeError(
            "a probe needs labels to learn, one for each example or position: Probes.fit(run, labels)."
        )
    return labels


def _again(runs: Any) -> Callable[[], Iterator[Any]]:
    """A function that iterates over the pairs again at every call."""
    if isinstance(runs, Sequence):
        return lambda: iter(runs)
    if callable(runs):

        def numbered() -> Iterator[Any]:
            i = 0
            while (one := runs(i)) is not None:
                yield one
                i += 1

        return numbered
    if hasattr(runs, "__iter__") and iter(runs) is not runs:
        return lambda: iter(runs)
    raise LoopscopeError(
        "probes go over the runs several times, so they need a run, a path, a list of (run, labels), or a "
        "function that makes "
        f"number i of them again and None after the last, but got a {type(runs).__name__}, which can be "
        "read only once."
    )


def _labels_of(pairs: Callable[[], Iterator[Any]]) -> Iterator[tuple[Any, ...]]:
    for one in pairs():
        yield _checked(one)[1:]


def _checked(one: Any) -> tuple[Any, ...]:
    if not isinstance(one, tuple) or len(one) not in (2, 3) or not isinstance(one[0], Run):
        raise LoopscopeError(
            "each of several runs must come as (run, labels) or (run, labels, mask), but got "
            f"{type(one).__name__}."
        )
    return one


def _pair(one: tuple[Any, ...]) -> tuple[Any, Any]:
    return one[0], one[1] if len(one) > 1 else None


def _cat(parts: list[Any]) -> Any:
    if all(isinstance(part, Tensor) for part in parts):
        return torch.cat(parts)
    return np.concatenate([np.asarray(part) for part in parts])
