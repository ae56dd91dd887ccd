"""Figures of cycles: a trajectory, its recurrence plot, the layers, and the thresholds."""

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from loopscope.common.text import number, percent
from loopscope.maths import KINDS, Kind
from loopscope.plots import style
from loopscope.plots.growing_path import GROWTH_SENTENCE, drawn_path
from loopscope.plots.heatmaps import square_heatmap
from loopscope.plots.panels import Panel

from .result import CyclesResult, kind_in, share_name

if TYPE_CHECKING:
    import plotly.graph_objects as go


def headline(result: CyclesResult) -> tuple[str, str]:
    """A short value for a tile, and its caption."""
    share = max(result.evidence.estimates, key=lambda estimate: estimate.value)
    return percent(share.value), f"of the trajectories: {kind_in(share.name)}"


def draw(result: CyclesResult) -> "go.Figure":
    """One trajectory in the principal plane of its second half."""
    example, position = result.example
    kind = KINDS[int(result.kind_index[example, position])]
    path = _path(result)
    x, y = ([None if v != v else float(f"{v:.5g}") for v in column] for column in path.T.tolist())
    title = f"Example {example}, position {position}: it {kind.value}"
    figure = style.empty(title, "component 1", "component 2", 480)
    line = {"color": style.FAINT, "width": 1}
    figure.add_scatter(x=x, y=y, mode="lines", name="trajectory", line=line, hoverinfo="skip")
    half = len(result.projection) // 2
    first = result.iterations[0]
    for name, part, colour in (
        ("first half", slice(0, half), style.SKY),
        ("second half", slice(half, None), style.RED),
    ):
        if not x[part]:
            continue  # it has left the figure before
        figure.add_scatter(
            x=x[part],
            y=y[part],
            mode="markers",
            name=name,
            marker={"color": colour, "size": 6},
            text=list(range(first, first + len(x)))[part],
            hovertemplate="state %{text}<extra></extra>",
        )
    if x and x[0] is not None:
        marker = {"symbol": "x", "size": 10, "color": style.GREY}
        figure.add_scatter(x=x[:1], y=y[:1], mode="markers", name=f"start (state {first})", marker=marker)
    style.square(figure)
    return figure


def _path(result: CyclesResult) -> Float[Tensor, "drawn 2"]:
    """The part of the trajectory that is drawn. A slider too may grow by a factor per iteration."""
    kind = KINDS[int(result.kind_index[result.example])]
    return drawn_path(result.projection, kind in (Kind.diverging, Kind.slider))


def panels(result: CyclesResult) -> list[Panel]:
    """The panels of a report."""
    out = [_trajectory_panel(result)]
    if result.recurrence is not None:
        out.append(
            Panel(
                "Recurrence plot",
                draw_recurrence(result),
                f"{percent(float(result.recurrence.rate))} of the pairs of states are closer than "
                f"{result.recurrence.threshold:g} of the root mean square (rms) distance; of these, "
                f"{percent(float(result.recurrence.determinism))} lie on diagonal lines.",
                "Dark means close: the distance of two states is divided by the rms distance of all pairs. "
                "Diagonal lines mean returns, and the distance between them is the period. A filled square "
                "means rest. Scattered dots mean chance.",
            )
        )
    if result.layers is not None and len(result.layers.names) > 1:
        out.append(
            Panel(
                "Similarity of unrolled layers",
                draw_layers(result),
                result.layers.sentence,
                "Rows and columns are the layers in the order they run, iteration after iteration. "
                "Diagonals at multiples of the block's depth: each layer repeats itself and differs from "
                "the others. All bright: all layers share one point.",
            )
        )
    out.append(
        Panel(
            "Sensitivity to thresholds",
            draw_shares(result),
            result.sensitivity_sentence,
            "Fraction of the trajectories of each kind as one threshold is varied and the others stay; the "
            f"dotted line is the value that was used. {_kinds_sentence(result)}",
        )
    )
    return out


def _kinds_sentence(result: CyclesResult) -> str:
    """What the kinds that occur do."""
    kinds = [KINDS[i] for i in range(len(KINDS)) if result.shares[KINDS[i].name] > 0]
    return "; ".join(f"{kind_in(share_name(kind))}: it {kind.value}" for kind in kinds).capitalize() + "."


def _trajectory_panel(result: CyclesResult) -> Panel:
    example, position = result.example
    period, angle = float(result.period[example, position]), float(result.angle[example, position])
    kind = KINDS[int(result.kind_index[example, position])]
    share = result.shares[kind.name]
    whole = period == round(period) if period == period else False
    rotation = f" It turns by {number(angle, 5)} radians per iteration (period {number(period, 5)})."
    rotation = f" It returns after {number(period, 5)} iterations." if whole else rotation
    rotation = rotation if angle > 0 else ""
    growth = f" {GROWTH_SENTENCE}" if len(_path(result)) < len(result.projection) else ""
    return Panel(
        "A trajectory in its principal plane",
        draw(result),
        f"Example {example}, position {position}, {kind.value}, as {percent(share)} of the trajectories "
        f"do.{rotation} "
        f"{result.period_sentence}".strip(),
        "Each dot is one state; the second half decides the kind. A fixed point is a single dot, an orbit "
        f"of integer period a few dots, any other orbit a closed curve, chaos a cloud.{growth}",
    )


def draw_recurrence(result: CyclesResult) -> "go.Figure":
    """The recurrence plot of the trajectory that `draw` shows."""
    recurrence = result.recurrence
    last = result.iterations[0] + len(result.projection)
    states = range(last - len(recurrence.distance), last) if recurrence is not None else ()
    values = recurrence.distance if recurrence is not None else None
    quantity = "distance / rms distance"
    return square_heatmap(
        "Distance between states", values, "iterations run (k)", quantity, labels=states, digits=3
    )


def draw_layers(result: CyclesResult) -> "go.Figure":
    """The cosine of all unrolled layers."""
    layers = result.layers
    names = layers.unrolled_names if layers is not None else ()
    values = layers.similarity if layers is not None else None
    axis, depth = "iteration, each with its layers", len(layers.names) if layers is not None else 0
    return square_heatmap(
        "Cosine of all unrolled layers", values, axis, "cosine", labels=names, group=depth, zmax=1
    )


def draw_shares(result: CyclesResult, threshold: str = "coherence") -> "go.Figure":
    """The shares of the kinds as a function of one threshold."""
    sensitivity = result.sensitivity[threshold]
    figure = style.empty(f"Shares by {threshold}", threshold, "fraction of trajectories", 340)
    colours = [*style.COLOURS, style.GREY]
    for i, kind in enumerate(KINDS):
        y = sensitivity.shares[:, i].tolist()
        if any(y):
            figure.add_scatter(
                x=sensitivity.values,
                y=y,
                name=kind_in(share_name(kind)),
                line={
                    "color": colours[i % len(colours)],
                    "width": 3,
                    "dash": "solid" if i < len(colours) else "dash",
                },
            )
    figure.add_vline(x=getattr(result.thresholds, threshold), line={"dash": "dot", "color": style.GREY})
    figure.update_yaxes(range=[-0.03, 1.03])
    figure.update_layout(showlegend=True)  # of a single kind too
    return figure
