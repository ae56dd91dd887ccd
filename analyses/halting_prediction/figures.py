"""Figures of halting prediction: the panels and the headline that a report shows."""

from typing import Any

from loopscope.common.text import number
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .measure import KINDS, HaltingPrediction


def headline(result: HaltingPrediction) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    first = float(result.r2["state"][0])
    return (
        f"R² {first:.2f}",
        f"of the halting iteration, from the state after {int(result.iterations[0])}. "
        f"{result.verdict.sentence}",
    )


def draw(result: HaltingPrediction) -> Any:
    """R² by iteration, for what the probe reads."""
    figure = style.empty("When it will stop, predicted", "iterations run", "R² on examples not seen", 380)
    names = {
        "state": "from the state",
        "signals": "from signals read off it",
        "position": "from the position alone",
    }
    names["shuffled"] = "state, shuffled halting"
    for (name, called), colour in zip(names.items(), (*style.COLOURS[:3], style.GREY), strict=True):
        figure.add_scatter(
            x=result.iterations.tolist(), y=[round(max(v, -1.0), 4) for v in result.r2[name].tolist()], name=called,
            mode="lines+markers", line={"color": colour, "width": 3 if name == "state" else 2},
            customdata=result.running.tolist(), hovertemplate="after %{x}: R² %{y:.2f} of %{customdata} "
                                                              "positions<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(range=[min(-0.1, *(float(v.clamp(min=-1).min()) for v in result.r2.values())), 1.03])
    return figure


def panels(result: HaltingPrediction) -> list[Panel]:
    """The finding as a report shows it."""
    i = len(result.iterations) // 2
    said = {name: number(float(result.r2[name][i]), 2) for name in KINDS}
    return [
        Panel(
            "How well the halting iteration is foretold",
            draw(result),
            f"{result.verdict.sentence} After {int(result.iterations[i])} iterations, with "
            f"{int(result.running[i])} positions still running: R² {said['state']} from the state, "
            f"{said['signals']} from the signals, {said['position']} from the position.",
            "Each point is a linear probe on the positions that still run, tested on whole examples that it "
            "has not seen. 1 is perfect, 0 is no better than saying the mean.",
        )
    ]
