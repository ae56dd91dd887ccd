"""Which loop is this? The iteration read off a state."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray as Array
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.text import number, percent
from ..plots.heatmaps import position_heatmap
from ..recorder.labels import task_of
from ..runs.run import Run
from . import intervals
from .figures import _marks
from .folds import folding, identities
from .labels import Labels
from .linear_solver import fitted
from .moments import Moments
from .sources import RunSource


def confusion_map(result: "WhichIteration") -> Any:
    """What the probe says by what is so."""
    figure = position_heatmap(
        result.confusion.tolist(), "Which iteration is it?", "true iteration", "fraction of the row",
        hover="after %{y} iterations, said %{x}: %{z:.1%}",
        zmin=0.0, zmax=1.0, bar={"tickformat": ".0%"},
    )  # fmt: skip
    figure.update_traces(x=list(result.iterations), y=list(result.iterations))
    _marks(figure, list(result.iterations), list(result.iterations))
    figure.update_xaxes(title={"text": "iteration that the probe says"})
    return figure


@dataclass(frozen=True)
class WhichIteration:
    """How well a linear probe tells which iteration a state is of."""

    site: str
    iterations: tuple[int, ...]
    accuracy: float
    """On examples held out."""
    low: float
    high: float
    error: float
    """Mean distance of the iteration said from the true one, in iterations."""
    direction: float
    """Accuracy when every state is brought to length 1 first."""
    norm: float
    """Accuracy from the logarithm of the state's length alone."""
    control: float
    """Accuracy with iterations shuffled within each example and position."""
    chance: float
    confusion: Float[Tensor, "true said"]
    """Fractions; each row sums to 1."""
    rows: int
    groups: int

    def __str__(self) -> str:
        return (
            f"Which of {len(self.iterations)} iterations a state of '{self.site}' is from is told right in "
            f"{percent(self.accuracy)} of {self.rows} cases held out (95 % interval {percent(self.low)} to "
            f"{percent(self.high)}, {self.groups} groups of examples), {number(self.error, 2)} iterations "
            f"off in the mean. With its length taken away {percent(self.direction)}, from its length alone "
            f"{percent(self.norm)}; iterations shuffled {percent(self.control)}, chance "
            f"{percent(self.chance)}."
        )

    def figure(self) -> Any:
        return confusion_map(self)


def which_iteration(
    run: Run,
    site: str = "state",
    *,
    positions: str | int = "shared",
    folds: int = 5,
    seed: int = 0,
    groups: Any = None,
) -> WhichIteration:
    """Train a probe that is shown states of all iterations and says which it is.

    All states of an example stay on one side of a split. What the step number can be read from,
    position by position, is a clock that the loop carries; where the states come to rest the last
    iterations can't be told apart, and shouldn't.

    Arguments:
        positions: "shared", "pooled" (the mean over positions), or a position.
    """
    source = RunSource(run, [site])
    iterations = source.iterations[site]
    if len(iterations) < 2:
        raise LoopscopeError(
            f"to tell iterations apart there must be two or more, but '{site}' has {iterations}."
        )
    n = len(iterations)
    identity, same = identities(source.tokens, source.batch, task_of(run))
    dummy = Labels("numbers", np.arange(source.batch, dtype=float), np.ones(source.batch, bool), ())
    split = folding(dummy, identity, same, groups=groups, folds=folds, seed=seed)
    x, example, y = _rows(source, site, positions)
    length = np.linalg.norm(x, axis=1, keepdims=True).clip(1e-30)
    generator = np.random.default_rng([seed, 11])
    mixed = _within(y, example, generator)
    told = _said(x, y, split.fold[example], n)
    group = split.group[example]
    hits = np.bincount(group, told == y, split.groups)
    rows = np.bincount(group, minlength=split.groups)
    low, high = intervals.of_share(hits, rows, 1 / n, split.folds)
    table = np.zeros((n, n))
    np.add.at(table, (y, told), 1)
    steps = np.array(iterations)
    return WhichIteration(
        site=site,
        iterations=tuple(iterations),
        accuracy=float((told == y).mean()),
        low=low,
        high=high,
        error=float(np.abs(steps[told] - steps[y]).mean()),
        direction=float((_said(x / length, y, split.fold[example], n) == y).mean()),
        norm=float((_said(np.log(length), y, split.fold[example], n) == y).mean()),
        control=float((_said(x, mixed, split.fold[example], n) == mixed).mean()),
        chance=float(np.bincount(y).max() / len(y)),
        confusion=torch.from_numpy(table / table.sum(1, keepdims=True)),
        rows=len(y),
        groups=split.groups,
    )


def _rows(source: RunSource, site: str, positions: str | int) -> tuple[Array, Array, Array]:
    """The states of all iterations one below the other, with the example and the iteration of
    each."""
    parts, examples, numbers = [], [], []
    for i, k in enumerate(source.iterations[site]):
        (chunk,) = source.chunks([(site, k)])
        piece = chunk.pieces[site, k]
        x = piece.values.cpu().double().numpy()
        here = np.ones(source.batch, bool) if piece.present is None else piece.present.cpu().numpy()
        x = x[here]
        if positions == "pooled":
            x = x.mean(1, keepdims=True)
        elif positions != "shared":
            x = x[:, [int(positions)]]
        parts.append(x.reshape(-1, x.shape[-1]))
        examples.append(np.repeat(np.flatnonzero(here), x.shape[1]))
        numbers.append(np.full(len(parts[-1]), i))
    return np.concatenate(parts), np.concatenate(examples), np.concatenate(numbers)


def _said(x: Array, y: Array, fold: Array, classes: int) -> Array:
    """What probes trained on the other folds say."""
    moments = Moments.empty(x, int(fold.max()) + 1, classes)
    moments.add(x, np.eye(classes)[y], fold)
    (probes,) = fitted(moments, "classes", 1)
    said = np.empty(len(y), int)
    for f in np.unique(fold):
        said[fold == f] = probes[f](x[fold == f]).argmax(1)
    return said


def _within(y: Array, example: Array, generator: np.random.Generator) -> Array:
    """The labels shuffled within each example."""
    order = np.argsort(example, kind="stable")
    mixed = np.lexsort((generator.random(len(y)), example))
    result = np.empty_like(y)
    result[order] = y[mixed]
    return result
