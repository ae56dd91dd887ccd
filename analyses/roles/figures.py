"""Examples solved with a state frozen, participation ratios, changes of the answers, attention by
role."""

from typing import TYPE_CHECKING

import torch

from loopscope.common.text import number, percent, plural
from loopscope.patching.figures import ITERATIONS_RUN
from loopscope.plots import style
from loopscope.plots.bands import with_gaps
from loopscope.plots.panels import Panel

from .attention_by_role import LABELS, AttentionContrast
from .measure import RolesResult, fraction

if TYPE_CHECKING:
    import plotly.graph_objects as go


def headline(result: RolesResult) -> tuple[str, str]:
    """The result in a few numbers, and what they are."""
    states, shares = result.frozen_from_start, result.evidence.estimates
    frozen = f"with {' · '.join(state.field for state in states)} frozen from the start"
    if not shares:
        return " · ".join(percent(fraction(state.solved)) for state in states), f"examples solved {frozen}"
    return (
        " · ".join(percent(one.value) for one in shares),
        f"of the {plural(result.evidence.examples, 'example')} solved with nothing frozen are still solved "
        f"{frozen}",
    )


def draw(result: RolesResult) -> "go.Figure":
    """Share of examples solved with a state frozen, by the iteration from which on it is."""
    figure = style.empty(
        "Examples solved with one state frozen", "first frozen iteration (t)", "share of examples solved", 380
    )
    marks = ("circle", "diamond-open", "square-open", "x")
    lines = zip(result.fields, style.COLOURS * len(result.fields), marks * len(result.fields), strict=False)
    for field, colour, mark in lines:
        states = [state for state in result.frozen if state.field == field]
        for name, variant, dash in (
            ("last_free", "last iteration free", "solid"),
            ("to_end", "to the end", "dot"),
        ):
            fair = states[0].read_out == (name == "last_free")
            figure.add_scatter(
                x=[state.start for state in states],
                y=[fraction(getattr(state, name)) for state in states],
                name=f"{style.label(field)}, {variant}",
                mode="lines+markers",
                line={"color": colour, "width": 4 if fair else 2, "dash": dash},
                marker={"symbol": mark, "size": 8 if mark == "circle" else 13, "line": {"width": 2}},
                hovertemplate=f"{style.label(field)} frozen from iteration %{{x}}, {variant}: "
                "%{y:.1%}<extra></extra>",
            )
    figure.add_hline(y=result.solved, line={"color": style.GREY, "width": 1, "dash": "dash"})
    figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


def draw_dimensions(result: RolesResult) -> "go.Figure":
    """Participation ratio of each state by iteration, trained and untrained."""
    figure = style.empty("Participation ratio of each state", ITERATIONS_RUN, "participation ratio", 380)
    colours = style.COLOURS * len(result.dimensions)
    for dimension, colour in zip(result.dimensions, colours, strict=False):
        for values, suffix, dash in (
            (dimension.ratio, "", "solid"),
            (dimension.untrained, ", untrained", "dot"),
        ):
            if values is not None:
                figure.add_scatter(
                    y=with_gaps(values),
                    name=f"{style.label(dimension.field)}{suffix}",
                    line={"color": colour, "width": 2 if dash == "dot" else 3, "dash": dash},
                )
    figure.update_yaxes(rangemode="tozero")
    return figure


def draw_changes(result: RolesResult) -> "go.Figure":
    """Answers that change from one iteration to the next, decoded from each state."""
    figure = style.empty("Changes of the answers", ITERATIONS_RUN, "answers changed", 380)
    for field, colour in zip(result.fields, style.COLOURS * len(result.fields), strict=False):
        for changes in (c for c in result.changes if c.field == field):
            frozen = "" if changes.frozen is None else f", {style.label(changes.frozen)} frozen"
            figure.add_scatter(
                x=list(range(1, result.iterations + 1)),
                y=(changes.content + changes.mask).tolist(),
                customdata=torch.stack([changes.content, changes.mask], 1).tolist(),
                name=f"decoded from {style.label(field)}{frozen}",
                line={"color": colour, "width": 2, "dash": "solid" if changes.frozen is None else "dot"},
                hovertemplate="k = %{x}: %{customdata[0]} from one symbol to another, %{customdata[1]} "
                "between blank and a symbol<extra></extra>",
            )
    return figure


def draw_attention(contrast: AttentionContrast) -> "go.Figure":
    """How much more local the attention of the inner role is, by layer."""
    title = f"Attention: locality of the {contrast.inner_axis} updates minus the other"
    figure = style.empty(title, "layer of each role", "difference of shares, 0..1", 360)
    for (name, words), colour in zip(LABELS.items(), style.COLOURS, strict=False):
        values = contrast.differences[name]
        figure.add_bar(
            x=[str(layer) for layer in range(len(values))],
            y=[d.mean if d.boards else None for d in values],
            name=words,
            error_y={"array": [d.half_width if d.boards > 1 else 0 for d in values], "thickness": 1},
            marker={"color": colour},
            customdata=[d.boards for d in values],
            hovertemplate="layer %{x}: %{y:.3f}, %{customdata} boards<extra></extra>",
        )
    figure.update_xaxes(type="category")
    return figure


def panels(result: RolesResult) -> list[Panel]:
    """The panels of a report."""
    solved = " and ".join(
        f"{percent(fraction(state.solved))} with {state.field} frozen {state.until}"
        + (f" (to the end: {percent(fraction(state.to_end))})" if state.read_out else "")
        for state in result.frozen_from_start
    )
    unsolved = ", unsolved ones among them," if result.solved < 1 else ""
    a, b = result.dimensions[:2]
    rows = [
        Panel(
            "Examples solved with a state frozen",
            draw(result),
            f"{result.sentence} Of all {result.examples} examples{unsolved} "
            f"{percent(result.solved)} are solved with nothing frozen (dashed line); from the start on: "
            f"{solved}.",
            "Solid: the last iteration may update the state; dotted: frozen to the end. Thick lines decide "
            f"the verdict: {a.field}, which is read out, is frozen until the last iteration, the others to "
            "the end. Larger open markers show a line that lies on another. A state that is read out and "
            "frozen to the end gives the answer that it had when it was frozen.",
        ),
        Panel(
            "Participation ratio of each state",
            draw_dimensions(result),
            f"At the end the participation ratio is {number(float(a.ratio[-1]))} for {a.field} and "
            f"{number(float(b.ratio[-1]))} for {b.field}.",
            f"Over {result.vectors} vectors (examples × positions), the same for all curves. Dotted: an "
            "untrained model of the same architecture.",
        ),
        Panel(
            "Changes of the answers decoded from each state",
            draw_changes(result),
            result.changes_sentence(result.fields[0]),
            "The model's read-out applied to each state; it was trained on the first only. Dotted: with "
            "the other state frozen from the start.",
        ),
    ]
    if result.attention is not None:
        rows.append(
            Panel(
                "Attention of the two roles",
                draw_attention(result.attention),
                result.attention_sentence(),
                f"For each answered cell, mean over heads and iterations: the first "
                f"{result.attention.inner_axis} update of an iteration minus the outer update; for entropy "
                "outer minus inner. Bars above 0: the inner role is more local. Whiskers: 95 % over boards.",
            )
        )
    return rows
