"""Figures of attention: distances to the limit, similar layers, and concentration and mixing."""

from typing import TYPE_CHECKING

from loopscope.common.text import number, percent
from loopscope.plots import style
from loopscope.plots.heatmaps import square_heatmap
from loopscope.plots.panels import Panel

from .pattern_panel import pattern_panel
from .result import AttentionResult

if TYPE_CHECKING:
    import plotly.graph_objects as go

_STAGES_TITLE = "Attention concentration and mixing by iteration"


def headline(result: AttentionResult) -> tuple[str, str]:
    """A short value for a tile, and its caption."""
    share = result.evidence.estimates[0]
    return f"{percent(share.value)} of heads", "have patterns that converge, mean over examples"


def draw(result: AttentionResult) -> "go.Figure":
    """The distance of each head's pattern from its limit, by iteration."""
    figure = style.empty("Distance of attention patterns to their limits", "iteration (t)", "Frobenius norm")
    layers, heads = len(result.layers), result.distance.shape[2]
    several = layers > 1
    for layer in range(layers):
        for head in range(heads):
            look = style.example_style(layer if several else head)  # a colour alone would come twice
            name = (f"layer {layer}, " if several else "") + f"head {head}"
            y = [v if v > 0 else None for v in result.distance[:, layer, head].tolist()]
            figure.add_scatter(
                y=y,
                name=f"layer {layer}" if several and not head else name,
                legendgroup=layer if several else head,
                showlegend=not several or not head,  # of the heads of a layer the first stands for all
                line={"color": look.colour, "width": 2, "dash": look.dash},
                mode="lines",
                hovertemplate=f"{name}, t = %{{x}}: %{{y:.3g}}<extra></extra>",
            )
    style.decades(figure)
    return figure


def draw_map(result: AttentionResult) -> "go.Figure":
    """The distance between the patterns of all unrolled layers."""
    depth, values = len(result.layers), result.pattern_distance
    names = [f"iteration {u // depth}, layer {u % depth}" for u in range(len(values))]
    title = "Distance between the patterns of unrolled layers"
    axis, quantity = "iteration, each with its layers", "Frobenius norm"
    return square_heatmap(title, values, axis, quantity, labels=names, group=depth, reversescale=True)


def draw_stages(result: AttentionResult) -> "go.Figure":
    """Concentration and mixing by iteration, unrolled over the layers, with the baseline of uniform
    attention."""
    figure = style.empty(_STAGES_TITLE, "iteration (t), layer by layer", "concentration | mixing (nats)", 360)
    depth = len(result.layers)
    x = [t + layer / depth for t in range(len(result.mixing)) for layer in range(depth)]
    for name, values, colour in (
        ("concentration", result.concentration, style.BLUE),
        ("mixing", result.mixing, style.ORANGE),
    ):
        figure.add_scatter(x=x, y=values.flatten().tolist(), name=name, line={"color": colour, "width": 2})
        figure.add_hline(y=result.uniform_baseline[name], line={"dash": "dot", "color": colour})
    return figure


def panels(result: AttentionResult) -> list[Panel]:
    """The panels of a report."""
    out = [
        pattern_panel(result.patterns),
        Panel(
            "Convergence of attention patterns",
            draw(result),
            f"{headline(result)[0]} converge, on average over examples; in the run's last iteration "
            f"patterns are at most {number(float(result.distance[-1].max()))} from their limits.",
            "One line per head, those of a layer in one colour, on a logarithmic scale: a straight fall is "
            "contraction at a constant rate. "
            f"{result.continuation}",
        ),
        Panel(
            _STAGES_TITLE,
            draw_stages(result),
            "In the last iteration of the run the concentration is "
            f"{number(float(result.concentration[-1].mean()))} and the mixing "
            f"{number(float(result.mixing[-1].mean()))} nats.",
            "Concentration: 0 if all positions receive the same attention, 1 if one receives all of it. "
            "Mixing: the entropy of one query's attention, on average over the queries; 0 if each attends to "
            "one position. Solid: measured, layer after layer within each iteration. Dotted: uniform "
            "attention under the same mask. A profile that repeats in every iteration means that the "
            "layers keep their roles.",
        ),
    ]
    if len(result.layers) > 1:
        out.insert(
            2,
            Panel(
                "Similarity of unrolled layers",
                draw_map(result),
                f"{percent(result.same_layer_fraction)} of the unrolled layers are most similar to the same "
                "layer of another iteration.",
                "Rows and columns are the layers in the order they run. Bright diagonals at multiples of "
                "the block's depth: each layer keeps its own pattern.",
            ),
        )
    return out
