"""R² of the predicted halting iteration by iteration and predictor."""

from typing import TYPE_CHECKING

from loopscope.common.text import number, plural
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .measure import HaltingPredictionResult
from .verdict import PREDICTORS

if TYPE_CHECKING:
    import plotly.graph_objects as go

LABELS = {
    "state": "state",
    "signals": "signals of exit rules",
    "position": "position",
    "shuffled": "state, shuffled halting",
}
"""What the legend calls the predictors."""


def headline(result: HaltingPredictionResult) -> tuple[str, str]:
    """The result in one number, and what the number is."""
    if not len(result.iterations):
        return result.verdict.name, "halting iteration: nothing to predict it from"
    k = int(result.iterations[result.best])
    return (
        f"R² {float(result.r2['state'][result.best]):.2f}",
        f"of the halting iteration, predicted from the state after {plural(k, 'iteration')}",
    )


def draw(result: HaltingPredictionResult) -> "go.Figure":
    """R² by iteration, one line for each predictor."""
    figure = style.empty("Halting iteration, predicted", "iterations run (k)", "R² on held-out examples", 380)
    for name, colour in zip(PREDICTORS, (*style.COLOURS[:3], style.GREY), strict=True):
        figure.add_scatter(
            x=result.iterations.tolist(),
            y=[None if v != v else round(max(v, -1.0), 4) for v in result.r2[name].tolist()],
            name=LABELS[name],
            mode="lines+markers",
            line={"color": colour, "width": 3 if name == "state" else 2},
            customdata=result.running.tolist(),
            hovertemplate="after %{x}: R² %{y:.2f} of %{customdata} positions<extra></extra>",
        )
    lowest = min(
        (float(v.clamp(min=-1).nan_to_num(0.0).min()) for v in result.r2.values() if len(v)), default=0
    )
    figure.update_yaxes(range=[min(-0.1, lowest), 1.03])
    return figure


def panels(result: HaltingPredictionResult) -> list[Panel]:
    """The panels of a report; none where there is nothing to predict."""
    if not len(result.iterations):
        return []
    i = len(result.iterations) // 2
    r2 = {name: number(float(result.r2[name][i]), 2) for name in PREDICTORS}
    return [
        Panel(
            "Predictability of the halting iteration",
            draw(result),
            f"{result.sentence} Halfway, after {plural(int(result.iterations[i]), 'iteration')}, with "
            f"{int(result.running[i])} positions still running: R² {r2['state']} from the state, "
            f"{r2['signals']} from the signals, {r2['position']} from the position.",
            "Each point is a linear probe on the positions that are still running, tested on held-out "
            "examples. 1 is perfect, 0 is no better than predicting the mean.",
        )
    ]
