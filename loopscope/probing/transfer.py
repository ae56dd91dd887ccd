"""Train at one iteration, test at another: does the loop write a thing in one place and leave it
there?"""

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from .probes import Probes
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from ..common.errors import LoopscopeError
from ..common.text import percent
from ..plots.heatmaps import position_heatmap
from ..runs.run import Run
from . import labels as told
from .figures import _base, _cell, _marks
from .fit_grid import Plan, Result, Tally, chosen_rows
from .folds import Folding, identities
from .linear_solver import Linear
from .probes import Probes
from .sources import Place, RunSource, Source


def transfer_map(result: "Transfer") -> Any:
    """Scores by the iteration trained at (downwards) and tested at (to the right)."""
    classes = result.kind == "classes"
    quantity = "accuracy" if classes else "R²"
    cells = [[_cell(max(v, -1.0)) for v in row] for row in result.score.tolist()]
    figure = position_heatmap(
        cells, "Trained at one iteration, tested at another", "trained after so many iterations", quantity,
        hover=f"trained after %{{y}}, tested after %{{x}}: {quantity} %{{z:{'.1%' if classes else '.2f'}}}",
        zmin=0.0, zmax=1.0, bar={"tickformat": ".0%"} if classes else {},
    )  # fmt: skip
    figure.update_traces(x=list(result.tested), y=list(result.trained), zmin=_base(result.control))
    _marks(figure, list(result.tested), list(result.trained))
    figure.update_xaxes(title={"text": "tested after so many iterations"})
    return figure


_GRIDS = ("score", "low", "high", "control")


@dataclass(frozen=True)
class Transfer:
    """Scores of probes trained at one iteration on states of another."""

    site: str
    position: int | str
    trained: tuple[int, ...]
    tested: tuple[int, ...]
    score: Float[Tensor, "trained tested"]
    """Accuracy; R² for numbers, below 0 where the probe does worse than the mean."""
    low: Float[Tensor, "trained tested"]
    high: Float[Tensor, "trained tested"]
    control: Float[Tensor, "trained tested"]
    """What the same probes score against labels shuffled between examples."""
    rows: int
    held_out: float
    """Fraction of the examples that the probes were fitted on, and that were judged by those
    trained without them."""
    kind: told.Kind

    def __str__(self) -> str:
        own = self.score.diagonal() if self.trained == self.tested else self.score.amax(0)
        name = "accuracy" if self.kind == "classes" else "R²"
        last, first = self.score[-1], self.trained[-1]
        shown = percent if self.kind == "classes" else "{:.2f}".format
        return (
            f"Probes of '{self.site}' trained at one iteration and tested at another ({self.rows} rows): "
            f"{name} {shown(float(own.nanmean()))} in the mean at the same iteration; trained at {first} "
            f"and tested at {self.tested[0]}: {shown(float(last[0]))}, "
            f"trained at {self.trained[0]} and tested at {self.tested[-1]}: "
            f"{shown(float(self.score[0, -1]))}; shuffled labels {shown(float(self.control.nanmean()))}. "
            f"{percent(self.held_out)} of the examples were also fitted on, and are judged by probes "
            "trained without them."
        )

    def figure(self) -> Any:
        return transfer_map(self)


def transfer(
    probes: Probes,
    run: Run | None,
    labels: Any = None,
    *,
    mask: Any = None,
    site: str | None = None,
    position: int | str | None = None,
) -> Transfer:
    """The matrix (trained at, tested at) on a run.

    Examples that the probes were fitted on, known by their inputs, are judged by the probes that
    were trained without their fold; others by those trained on all.

    Arguments:
        run: the run they were fitted on, or another of the same site.
        labels, mask: as in `Probes.fit`; None: those the probes know, if they know all of the run's
            examples.
        site, position: needed where there are several.
    """
    if run is None:
        raise LoopscopeError(
            "probes hold no states, so a transfer needs a run to test on: probes.transfer(run)."
        )
    s, _, p = probes._place(probes.iterations[0], site, position)
    name, unit = probes.sites[s], probes.positions[p]
    source = RunSource(run, [name])
    identity, _ = identities(source.tokens, source.batch)
    where = {int(one): i for i, one in enumerate(probes.identity.tolist())}
    known = np.array([where.get(int(one), -1) for one in identity])
    checked = _labels(probes, source, known, labels, mask=mask)
    fold = np.where(known >= 0, probes.fold.numpy()[known], probes.folds)
    group = np.unique(identity, return_inverse=True)[1].reshape(-1)
    split = Folding(identity, group, fold, ())
    plan = Plan(checked, told.shuffled(checked, group, probes.seed, 3), split, [unit], seed=probes.seed)
    trained = [i for i in range(len(probes.iterations)) if (s, i, p) in probes.weights]
    tested = source.iterations[name]
    if not trained:
        raise LoopscopeError(
            "a transfer needs probes that were kept, but an estimator made these. Fit without estimator=."
        )
    places = [(s, i, p) for i in trained]
    grids = {grid: torch.full((len(trained), len(tested)), torch.nan) for grid in _GRIDS}
    rows = 0
    for j, k in enumerate(tested):
        scores, count = _scores(probes, places, source, plan, place=(name, k))
        rows = max(rows, count)
        for grid, values in grids.items():
            values[:, j] = torch.tensor([getattr(score, grid) for score in scores])
    return Transfer(
        name, unit, tuple(probes.iterations[t] for t in trained), tuple(tested), **grids, rows=rows,
        held_out=float((known >= 0).mean()), kind=probes.kind,
    )  # fmt: skip


def _scores(
    probes: Probes, trained: list[tuple[int, int, int]], source: Source, plan: Plan, *, place: Place
) -> tuple[list[Result], int]:
    """What each of the trained probes scores at one place of the source, and over how many rows."""
    (chunk,) = source.chunks([place])
    piece, (unit,), fold = chunk.pieces[place], plan.units, plan.folding.fold
    x, example, position = chosen_rows(piece.values.cpu().double().numpy(), piece, unit, plan.labels, first=0)
    scores = []
    for key in trained:
        weight, bias = probes.weights[key].numpy(), probes.biases[key].numpy()
        if weight.shape[1] != x.shape[1]:
            raise LoopscopeError(
                f"the states must be {weight.shape[1]} wide, as those that were fitted, but are {x.shape[1]}."
            )
        answers = np.empty(len(x))
        for f in np.unique(fold[example]):
            here = fold[example] == f
            outputs = Linear(weight[f], bias[f])(x[here])
            answers[here] = outputs.argmax(1) if probes.kind == "classes" else outputs[:, 0]
        tally = Tally(plan)
        tally.add(np.broadcast_to(answers, (1 + len(plan.controls), len(x))), example, position)
        scores.append(tally.result([]))
    return scores, len(x)


def _labels(probes: Probes, source: Source, known: np.ndarray, labels: Any, *, mask: Any) -> told.Labels:
    """The run's labels, in the class numbers of the probes."""
    if labels is None:
        if (known < 0).any():
            raise LoopscopeError(
                "the probes know the labels of the examples they were fitted on, but "
                f"{int((known < 0).sum())} of {len(known)} are others. Pass labels=."
            )
        return told.Labels(
            probes.kind, probes.labels.numpy()[known], probes.mask.numpy()[known], probes.classes
        )
    count = source.positions[next(iter(source.positions))]
    checked = told.labelled(labels, mask=mask, kind=probes.kind, batch=source.batch, positions=count)
    if probes.kind == "numbers":
        return checked
    unknown = set(checked.classes) - set(probes.classes)
    if unknown:
        raise LoopscopeError(
            f"labels must be classes the probes know, but hold {sorted(map(str, unknown))[:5]}."
        )
    number = np.array([probes.classes.index(one) for one in checked.classes])
    return told.Labels("classes", number[checked.values], checked.mask, probes.classes)
