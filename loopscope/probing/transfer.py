"""Transfer of probes: train at one iteration, test at another. Does the loop keep a feature in the
same directions of the state?"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray as Array
from torch import Tensor

from ..common.errors import LoopscopeError, LoopscopeWarning
from ..common.text import percent
from ..plots.heatmaps import position_heatmap
from ..recorder.provenance import origin_difference
from ..runs.run import Run
from .figures import cell_value, colour_minimum, set_ticks
from .fit_linear import LinearMap
from .folds import Folding, input_hashes
from .labels import Kind, ProbeLabels, checked_labels, mask_decides, shuffled_labels
from .probe_result import ProbeResult
from .score_tally import ProbePlan, ProbeScore, ScoreTally, labelled_rows
from .sources import FeatureSource, RunSource, SiteIteration

if TYPE_CHECKING:
    import plotly.graph_objects as go


def transfer_map(result: "Transfer") -> "go.Figure":
    """A heat map of scores: trained at (downwards), tested at (to the right)."""
    classes = result.kind == "classes"
    quantity = "accuracy" if classes else "R²"
    cells = [[cell_value(max(v, -1.0)) for v in row] for row in result.score.tolist()]
    figure = position_heatmap(
        cells, "Trained at one iteration, tested at another", "trained after k iterations", quantity,
        hover=f"trained after %{{y}}, tested after %{{x}}: {quantity} %{{z:{'.1%' if classes else '.2f'}}}",
        zmin=0.0, zmax=1.0, bar={"tickformat": ".0%"} if classes else {},
    )  # fmt: skip
    figure.update_traces(x=list(result.tested), y=list(result.trained), zmin=colour_minimum(result.control))
    set_ticks(figure, list(result.tested), list(result.trained))
    figure.update_xaxes(title={"text": "tested after k iterations"})
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
    """Score of the same probes against labels shuffled between examples."""
    rows: int
    held_out: float
    """Fraction of the examples that the probes were also fitted on, and that are tested by the
    probes trained without their fold."""
    kind: Kind

    def __str__(self) -> str:
        same = self.score.diagonal() if self.trained == self.tested else self.score.amax(0)
        name = "accuracy" if self.kind == "classes" else "R²"
        last, first = self.score[-1], self.trained[-1]
        shown = percent if self.kind == "classes" else "{:.2f}".format
        return (
            f"Probes of '{self.site}' trained at one iteration and tested at another ({self.rows} rows): "
            f"{name} {shown(float(same.nanmean()))} on average at the same iteration; trained at {first} "
            f"and tested at {self.tested[0]}: {shown(float(last[0]))}, "
            f"trained at {self.trained[0]} and tested at {self.tested[-1]}: "
            f"{shown(float(self.score[0, -1]))}; shuffled labels {shown(float(self.control.nanmean()))}. "
            f"{percent(self.held_out)} of the examples were also fitted on, and are tested by probes "
            "trained without them."
        )

    def figure(self) -> "go.Figure":
        """A heat map: trained at (downwards), tested at (to the right)."""
        return transfer_map(self)


# It is long because its docstring explains five arguments.
def transfer(
    probes: ProbeResult,
    run: Run | None,
    labels: Any = None,
    *,
    mask: Any = None,
    site: str | None = None,
    position: int | str | None = None,
) -> Transfer:
    """The matrix (trained at, tested at) on a run.

    Examples that the probes were fitted on, recognised by their inputs, are tested by the probes
    that were trained without their fold; others by those trained on all examples.

    Arguments:
        run: the run that they were fitted on, or another of the same site.
        labels, mask: as in `Probes.fit`; None: the labels of the probes, which must
            cover all examples of the run.
        site, position: needed where there are several.

    Raises:
        LoopscopeError: no run, new examples without labels, or probes that were not kept.
    """
    if run is None:
        raise LoopscopeError(
            "probes hold no states, so a transfer needs a run to test on: probes.transfer(run)."
        )
    s, _, p = probes.index(probes.iterations[0], site, position)
    name, unit = probes.sites[s], probes.positions[p]
    source = RunSource(run, [name])
    _warn_of_another_model(probes, source)
    identity, _ = input_hashes(source.tokens, source.batch, mask=source.mask)
    where = {int(one): i for i, one in enumerate(probes.identity.tolist())}
    fitted_row = np.array([where.get(int(one), -1) for one in identity])
    checked = _labels(probes, source, fitted_row, labels, mask=mask)
    fold = np.where(fitted_row >= 0, probes.fold.numpy()[fitted_row], probes.folds)
    group = np.unique(identity, return_inverse=True)[1].reshape(-1)
    split = Folding(identity, group, fold, ())
    counted = None if source.mask is None or mask_decides(mask) else source.mask.numpy()
    plan = ProbePlan(
        checked,
        shuffled_labels(checked, group, probes.seed, 3),
        split,
        [unit],
        seed=probes.seed,
        counted=counted,
    )
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
        held_out=float((fitted_row >= 0).mean()), kind=probes.kind,
    )  # fmt: skip


def _warn_of_another_model(probes: ProbeResult, source: FeatureSource) -> None:
    """Warn if probes are tested on states of another model than they were fitted on."""
    difference = origin_difference(probes.origin, source.origin)
    if difference is not None:
        warnings.warn(
            f"These probes were fitted on the states of another model: {difference}. They are tested on "
            "this run's states nevertheless.",
            LoopscopeWarning,
            stacklevel=4,
        )


def _scores(
    probes: ProbeResult,
    trained: list[tuple[int, int, int]],
    source: FeatureSource,
    plan: ProbePlan,
    *,
    place: SiteIteration,
) -> tuple[list[ProbeScore], int]:
    """The score of each of the trained probes at one site and iteration, and the number of rows."""
    (chunk,) = source.chunks([place])
    piece, (unit,), fold = chunk.pieces[place], plan.units, plan.folding.fold
    x, example, position = labelled_rows(piece.values.cpu().double().numpy(), piece, unit, plan, first=0)
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
            outputs = LinearMap(weight[f], bias[f])(x[here])
            answers[here] = outputs.argmax(1) if probes.kind == "classes" else outputs[:, 0]
        tally = ScoreTally(plan)
        tally.add(np.broadcast_to(answers, (1 + len(plan.controls), len(x))), example, position)
        scores.append(tally.result([]))
    return scores, len(x)


def _labels(
    probes: ProbeResult, source: FeatureSource, fitted_row: Array, labels: Any, *, mask: Any
) -> ProbeLabels:
    """The run's labels as class numbers of the probes."""
    if labels is None:
        if (fitted_row < 0).any():
            raise LoopscopeError(
                "the probes have labels only for the examples they were fitted on, but "
                f"{int((fitted_row < 0).sum())} of {len(fitted_row)} are others. Pass labels=."
            )
        return ProbeLabels(
            probes.kind, probes.labels.numpy()[fitted_row], probes.mask.numpy()[fitted_row], probes.classes
        )
    count = source.positions[next(iter(source.positions))]
    checked = checked_labels(labels, mask=mask, kind=probes.kind, batch=source.batch, positions=count)
    if probes.kind == "numbers":
        return checked
    new = set(checked.classes) - set(probes.classes)
    if new:
        raise LoopscopeError(f"labels must be classes of the probes, but hold {sorted(map(str, new))[:5]}.")
    number = np.array([probes.classes.index(label) for label in checked.classes])
    return ProbeLabels("classes", number[checked.values], checked.mask, probes.classes)
