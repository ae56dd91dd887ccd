"""Figures of geometry: the panels and the headline that a report shows."""

from typing import Any

from loopscope.common.text import number, percent
from loopscope.plots import style
from loopscope.plots.heatmaps import square_map
from loopscope.plots.panels import Panel

from .measure import Geometry


def headline(result: Geometry) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    known = result.fields[0].ratio[
        result.fields[0].ratio.isfinite()
    ]  # a start that all examples share fills none
    return (
        f"{float(known[0]):.3g} → {float(known[-1]):.3g}" if len(known) else "none",
        f"directions filled (participation ratio). {result.verdict.sentence}",
    )


def draw(result: Geometry) -> Any:
    """Participation ratio and effective rank by iteration, all fields side by side."""
    figure = style.empty("Directions that the states fill", "iterations run", "directions")
    for field, colour in zip(result.fields, style.COLOURS * len(result.fields), strict=False):
        for name, values, dash in (
            ("participation ratio", field.ratio, "solid"),
            ("effective rank", field.rank, "dot"),
        ):
            figure.add_scatter(
                x=list(result.states),
                y=[None if v != v else v for v in values.tolist()],
                name=f"{style.label(field.name)}: {name}",
                line={"color": colour, "width": 3 if dash == "solid" else 2, "dash": dash},
            )
    figure.update_yaxes(rangemode="tozero")
    return figure


def draw_ways(result: Geometry, field: int = 0) -> Any:
    """Some trajectories in the first two principal components of all states."""
    f = result.fields[field]
    title = f"{style.label(f.name)}: {len(result.places)} trajectories in the principal plane"
    axes = [
        f"component {i + 1} ({percent(float(share))} of the variance)"
        for i, share in enumerate(f.explained[:2])
    ]
    figure = style.empty(title, axes[0], axes[1] if len(axes) > 1 else "", 480)
    for (example, position), way in zip(result.places, f.components.tolist(), strict=True):
        x, y = ([round(point[i], 5) if len(point) > i else 0.0 for point in way] for i in (0, 1))
        colour = style.COLOURS[
            (position if result.places[0][1] != result.places[-1][1] else example) % len(style.COLOURS)
        ]
        hover = f"example {example}, position {position}, state %{{text}}<extra></extra>"
        line = {"color": colour, "width": 1}
        figure.add_scatter(
            x=x, y=y, mode="lines+markers", text=list(result.states), hovertemplate=hover, line=line,
            marker={"size": 3}, showlegend=False,
        )  # fmt: skip
        figure.add_scatter(
            x=x[-1:],
            y=y[-1:],
            mode="markers",
            marker={"size": 9, "color": colour},
            showlegend=False,
            hoverinfo="skip",
        )
    return figure


def draw_similarity(result: Geometry, field: int = 0) -> Any:
    """CKA of the states after any two iterations."""
    f = result.fields[field]
    title = f"{style.label(f.name)}: similarity of iterations"
    return square_map(title, f.cka, "iterations run", "CKA", labels=result.states, zmax=1)


def panels(result: Geometry) -> list[Panel]:
    """The finding as a report shows it."""
    f = result.fields[0]
    known = f.angle[~f.angle.isnan()]
    bend = (
        f" Successive steps turn by {number(float(known.mean()))} radians in the mean." if len(known) else ""
    )
    return [
        Panel(
            "How many directions the states fill",
            draw(result),
            f"The participation ratio goes from {number(float(f.ratio[0]))} to "
            f"{number(float(f.ratio[-1]))}, of {f.width}.",
            f"Over clouds of {result.vectors} vectors (examples × positions). Solid counts strong "
            "directions, dotted also weak ones; a fall means that the loop draws states together.",
        ),
        Panel(
            "Trajectories in the principal plane",
            draw_ways(result),
            f"The plane holds {percent(float(f.explained[:2].sum()))} of the variance.{bend}",
            "Each line is one position of one example, its end the large dot.",
        ),
        Panel(
            "Which iterations look alike",
            draw_similarity(result),
            f"The first and the last state have a CKA of {number(float(f.cka[0, -1]))}.",
            "A bright square is a stretch of iterations that no longer changes the picture of all states; "
            "rotations and one common scale don't count as change.",
        ),
    ]
