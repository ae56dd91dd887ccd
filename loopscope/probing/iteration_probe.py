"""A linear probe of the iteration index: which iteration is a state from?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
from .figures import set_ticks
from .fit_linear import fit_linear
from .folds import folding, input_hashes
from .labels import ProbeLabels
from .moments import Moments
from .sources import RunSource, pooled

if TYPE_CHECKING:
    import plotly.graph_objects as go


def confusion_map(result: "IterationProbe") -> "go.Figure":
    """A heat map of the predicted iteration by the true one."""
    figure = position_heatmap(
        result.confusion.tolist(), "Which iteration is it?", "true iteration", "fraction of the row",
        hover="after %{y} iterations, predicted %{x}: %{z:.1%}",
        zmin=0.0, zmax=1.0, bar={"tickformat": ".0%"},
    )  # fmt: skip
    figure.update_traces(x=list(result.iterations), y=list(result.iterations))
    set_ticks(figure, list(result.iterations), list(result.iterations))
    figure.update_xaxes(title={"text": "predicted iteration"})
    return figure


@dataclass(frozen=True)
class IterationProbe:
    """How well a linear probe predicts the iteration that a state is from."""

    site: str
    iterations: tuple[int, ...]
    accuracy: float
    """On held-out examples."""
    low: float
    high: float
    error: float
    """Mean absolute difference of the predicted and the true iteration."""
    direction: float
    """Accuracy when every state is normalised to length 1."""
    norm: float
    """Accuracy from only the logarithm of the state's norm."""
    control: float
    """Accuracy with iterations shuffled within each example and position."""
    chance: float
    confusion: Float[Tensor, "true predicted"]
    """Fractions; each row sums to 1."""
    rows: int
    groups: int

    def __str__(self) -> str:
        return (
            f"A linear probe predicts which of {len(self.iterations)} iterations a state of '{self.site}' is "
            f"from in {percent(self.accuracy)} of {self.rows} held-out cases (95 % interval "
            f"{percent(self.low)} to {percent(self.high)}, {self.groups} groups of examples), "
            f"{number(self.error, 2)} iterations off on average. From normalised states "
            f"{percent(self.direction)}, from their norm only {percent(self.norm)}; iterations shuffled "
            f"{percent(self.control)}, chance {percent(self.chance)}."
        )

    def figure(self) -> "go.Figure":
        """A heat map of the predicted iteration by the true one."""
        return confusion_map(self)


def probe_iteration(
    run: Run,
    site: str = "state",
    *,
    positions: str | int = "shared",
    folds: int = 5,
    seed: int = 0,
    groups: Any = None,
) -> IterationProbe:
    """Train a probe that predicts the iteration of a state.

    All states of an example stay on one side of a split. An accuracy above chance means that the
    state encodes the iteration index; where the states converge the last iterations can't be
    distinguished.

    Arguments:
        positions: "shared" (each position is a row), "pooled" (the mean over positions), or a
            position.
        folds, seed, groups: as in `Probes.fit`.

    Raises:
        LoopscopeError: the site has fewer than two iterations, or there are too few examples.
    """
    source = RunSource(run, [site])
    iterations = source.iterations[site]
    if len(iterations) < 2:
        raise LoopscopeError(
            f"to tell iterations apart there must be two or more, but '{site}' has {iterations}."
        )
    n = len(iterations)
    identity, same = input_hashes(source.tokens, source.batch, task_of(run), source.mask)
    dummy = ProbeLabels("numbers", np.arange(source.batch, dtype=float), np.ones(source.batch, bool), ())
    split = folding(dummy, identity, same, groups=groups, folds=folds, seed=seed)
    x, example, y = _rows(source, site, positions)
    length = np.linalg.norm(x, axis=1, keepdims=True).clip(1e-30)
    generator = np.random.default_rng([seed, 11])
    mixed = _within(y, example, generator)
    predicted = _predictions(x, y, split.fold[example], n)
    group = split.group[example]
    hits = np.bincount(group, predicted == y, split.groups)
    rows = np.bincount(group, minlength=split.groups)
    low, high = intervals.share_interval(hits, rows, 1 / n, split.folds)
    table = np.zeros((n, n))
    np.add.at(table, (y, predicted), 1)
    steps = np.array(iterations)
    return IterationProbe(
        site=site,
        iterations=tuple(iterations),
        accuracy=float((predicted == y).mean()),
        low=low,
        high=high,
        error=float(np.abs(steps[predicted] - steps[y]).mean()),
        direction=float((_predictions(x / length, y, split.fold[example], n) == y).mean()),
        norm=float((_predictions(np.log(length), y, split.fold[example], n) == y).mean()),
        control=float((_predictions(x, mixed, split.fold[example], n) == mixed).mean()),
        chance=float(np.bincount(y).max() / len(y)),
        confusion=torch.from_numpy(table / table.sum(1, keepdims=True)),
        rows=len(y),
        groups=split.groups,
    )


def _rows(source: RunSource, site: str, positions: str | int) -> tuple[Array, Array, Array]:
    """(x (row, width), example (row), iteration number (row)) of the states of all iterations."""
    parts, examples, numbers = [], [], []
    for i, k in enumerate(source.iterations[site]):
        (chunk,) = source.chunks([(site, k)])
        piece = chunk.pieces[site, k]
        x = piece.values.cpu().double().numpy()
        here = np.ones(x.shape[:2], bool) if source.mask is None else source.mask.numpy()
        if piece.present is not None:
            here = here & piece.present.cpu().numpy()[:, None]
        if positions == "pooled":
            x, here = pooled(x, here)[:, None], here.any(1, keepdims=True)
        elif positions != "shared":
            x, here = x[:, [int(positions)]], here[:, [int(positions)]]
        parts.append(x[here])
        examples.append(np.nonzero(here)[0])
        numbers.append(np.full(len(parts[-1]), i))
    return np.concatenate(parts), np.concatenate(examples), np.concatenate(numbers)


def _predictions(x: Array, y: Array, fold: Array, classes: int) -> Array:
    """Predictions of the probes trained on the other folds."""
    moments = Moments.empty(x, int(fold.max()) + 1, classes)
    moments.add(x, np.eye(classes)[y], fold)
    (probes,) = fit_linear(moments, "classes", 1)
    result = np.empty(len(y), int)
    for f in np.unique(fold):
        result[fold == f] = probes[f](x[fold == f]).argmax(1)
    return result


def _within(y: Array, example: Array, generator: np.random.Generator) -> Array:
    """The labels shuffled within each example."""
    order = np.argsort(example, kind="stable")
    mixed = np.lexsort((generator.random(len(y)), example))
    result = np.empty_like(y)
    result[order] = y[mixed]
    return result
