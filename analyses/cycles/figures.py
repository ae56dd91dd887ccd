"""Figures of cycles: the panels and the headline that a report shows."""

from typing import Any

from loopscope.common.text import number, percent
from loopscope.maths import KINDS
from loopscope.plots import style
from loopscope.plots.heatmaps import square_map
from loopscope.plots.panels import Panel

from .measure import Cycles, _periods, _sways


def headline(result: Cycles) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    name, share = max(result.shares.items(), key=lambda item: item[1])
    return f"{percent(share)} {name.replace('_', ' ')}", f"of the trajectories. {result.verdict.sentence}"


def draw(result: Cycles) -> Any:
    """One trajectory in the plane that shows most of its late half."""
    p = [[None if v != v else float(f"{v:.5g}") for v in column] for column in result.plane.T.tolist()]
    b, position = result.example
    kind = KINDS[int(result.code[b, position])]
    figure = style.empty(
        f"Example {b}, position {position}: it {kind.value}", "direction 1", "direction 2", 480
    )
    half = len(result.plane) // 2
    figure.add_scatter(
        x=p[0], y=p[1], mode="lines", name="way", line={"color": style.FAINT, "width": 1}, hoverinfo="skip"
    )
    for name, part, colour in (
        ("first half", slice(0, half), style.SKY),
        ("late half", slice(half, None), style.RED),
    ):
        figure.add_scatter(
            x=p[0][part],
            y=p[1][part],
            mode="markers",
            name=name,
            marker={"color": colour, "size": 6},
            text=list(range(result.iterations[0], result.iterations[0] + len(p[0])))[part],
            hovertemplate="state %{text}<extra></extra>",
        )
    figure.update_yaxes(scaleanchor="x", scaleratio=1)
    return figure


def panels(result: Cycles) -> list[Panel]:
    """The finding as a report shows it."""
    b, position = result.example
    period, angle = float(result.period[b, position]), float(result.angle[b, position])
    turn = (
        f" It turns by {number(angle, 5)} radians per iteration (period {number(period, 5)})."
        if angle > 0
        else ""
    )
    out = [
        Panel(
            "A trajectory in its plane",
            draw(result),
            f"Example {b}, position {position}, {KINDS[int(result.code[b, position])].value}.{turn} "
            f"{_periods(result)}".strip(),
            "Each dot is one state; the late half decides. A point is one dot, an orbit that closes a few, "
            "one that never closes a curve, chaos a cloud.",
        )
    ]
    if result.recurrence is not None:
        out.append(
            Panel(
                "When it comes back",
                draw_recurrence(result),
                f"{percent(float(result.recurrence.rate))} of the pairs of states lie closer than "
                f"{result.recurrence.threshold:g} of their usual distance, "
                f"{percent(float(result.recurrence.determinism))} of these in runs.",
                "Dark means close. Diagonals are returns, their distance the period; a filled square is "
                "rest; scattered dots are chance.",
            )
        )
    if result.layers is not None and len(result.layers.names) > 1:
        out.append(
            Panel(
                "Layer by layer",
                draw_layers(result),
                result.layers.sentence,
                "Rows and columns are the layers in the order they run, iteration after iteration. "
                "Diagonals at multiples of the block's depth: each layer repeats itself and differs from "
                "the others. All bright: one point for all.",
            )
        )
    out.append(
        Panel(
            "What the thresholds decide",
            draw_shares(result),
            _sways(result),
            "Fraction of the trajectories of each kind as one threshold is moved and the others stay; the "
            "dotted line is the one that was used.",
        )
    )
    return out


def draw_recurrence(result: Cycles) -> Any:
    """The recurrence plot of the trajectory that `draw` shows."""
    r = result.recurrence
    last = result.iterations[0] + len(result.plane)
    ks = range(last - len(r.distance), last) if r is not None else ()
    values = r.distance if r is not None else None
    return square_map("Distance between states", values, "state", "distance, 1 is usual", labels=ks, digits=3)


def draw_layers(result: Cycles) -> Any:
    """The cosine of all unrolled layers."""
    own = result.layers
    names = own.unrolled if own is not None else ()
    values = own.similarity if own is not None else None
    return square_map("Cosine of all unrolled layers", values, "layer, unrolled", "cosine", labels=names)


def draw_shares(result: Cycles, threshold: str = "coherence") -> Any:
    """How the shares of the kinds change with a threshold."""
    sweep = result.sensitivity[threshold]
    figure = style.empty(f"Shares by {threshold}", threshold, "fraction of trajectories", 340)
    colours = [*style.COLOURS, style.GREY]
    for code, kind in enumerate(KINDS):
        y = sweep["shares"][:, code].tolist()
        if any(y):
            figure.add_scatter(
                x=sweep["values"],
                y=y,
                name=kind.name.replace("_", " "),
                line={"color": colours[code], "width": 3},
            )
    figure.add_vline(x=getattr(result.thresholds, threshold), line={"dash": "dot", "color": style.GREY})
    figure.update_yaxes(range=[-0.03, 1.03])
    return figure
