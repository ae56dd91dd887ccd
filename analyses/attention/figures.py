"""Figures of attention: the panels and the headline that a report shows."""

from typing import Any

from loopscope.common.text import number, percent
from loopscope.plots import style
from loopscope.plots.heatmaps import square_map
from loopscope.plots.panels import Panel

from .measure import Attention


def headline(result: Attention) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    done = int((~result.settled.isnan()).sum())
    return f"{done} of {result.settled.numel()} heads", f"settle. {result.verdict.sentence}"


def draw(result: Attention) -> Any:
    """How far each head's pattern is from its limit, by iteration."""
    figure = style.empty("Distance of attention patterns to their limits", "iteration", "Frobenius norm")
    several = len(result.layers) > 1
    for layer in range(len(result.layers)):
        colour = style.COLOURS[layer % len(style.COLOURS)]
        for head in range(result.distance.shape[2]):
            name = (f"layer {layer}, " if several else "") + f"head {head}"
            colour = colour if several else style.COLOURS[head % len(style.COLOURS)]
            y = [v if v > 0 else None for v in result.distance[:, layer, head].tolist()]
            figure.add_scatter(
                y=y, name=name, legendgroup=layer if several else head, line={"color": colour, "width": 2}
            )
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    return figure


def draw_map(result: Attention) -> Any:
    """The distance between the patterns of all unrolled layers."""
    depth = len(result.layers)
    names = [f"iteration {u // depth}, layer {u % depth}" for u in range(len(result.map))]
    title = "Distance of patterns, all unrolled layers"
    return square_map(title, result.map, "layer, unrolled", "Frobenius norm", labels=names, reversescale=True)


def draw_stages(result: Attention) -> Any:
    """Concentration and mixing by iteration, unrolled over the layers, with what a causal mask
    alone gives."""
    figure = style.empty("Stages of inference", "iteration", "concentration | mixing (nats)", 360)
    depth = len(result.layers)
    x = [t + layer / depth for t in range(len(result.mixing)) for layer in range(depth)]
    for name, values, colour in (
        ("concentration", result.concentration, style.BLUE),
        ("mixing", result.mixing, style.ORANGE),
    ):
        figure.add_scatter(x=x, y=values.flatten().tolist(), name=name, line={"color": colour, "width": 2})
        figure.add_hline(y=result.null[name], line={"dash": "dot", "color": colour})
    return figure


def panels(result: Attention) -> list[Panel]:
    """The finding as a report shows it."""
    out = [
        Panel(
            "Attention on its way to rest",
            draw(result),
            f"{headline(result)[0]} settle; their patterns at the end of the iterations shown are "
            f"{number(float(result.distance[-1].max()))} from the limit at most.",
            f"One line per head, on a logarithmic scale: a straight fall is steady contraction. {result.how}",
        ),
        Panel(
            "Stages of inference",
            draw_stages(result),
            f"Concentration ends at {number(float(result.concentration[-1].mean()))} and mixing at "
            f"{number(float(result.mixing[-1].mean()))} nats.",
            "Solid: measured, layer after layer within each iteration. Dotted: what a mask alone gives with "
            "uniform attention. A pattern that repeats every iteration is one profile replayed.",
        ),
    ]
    if len(result.layers) > 1:
        out.insert(
            1,
            Panel(
                "Which layers attend alike",
                draw_map(result),
                f"{percent(result.nearest)} of the unrolled layers are nearest to the same layer of another "
                "iteration.",
                "Rows and columns are the layers in the order they run. Bright diagonals at multiples of "
                "the block's depth: each layer keeps its own pattern.",
            ),
        )
    return out
