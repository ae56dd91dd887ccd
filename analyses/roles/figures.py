"""Figures of roles: the panels and the headline that a report shows."""

from typing import Any

import torch

from loopscope.common.text import number, percent
from loopscope.plots import style
from loopscope.plots.panels import Panel
from loopscope.plots.style import COLOURS, empty, label

from .attention_by_role import NAMES, Contrast
from .measure import RolesResult, _attends, _changes, share


def difference_figure(result: Contrast) -> Any:
    """How much more local the inner role is, by layer."""
    title = f"Attention: how much more local the {label(result.inner)} updates are"
    figure = empty(title, "layer of each role", "difference of shares, 0..1", 360)
    for (name, words), colour in zip(NAMES.items(), COLOURS, strict=False):
        values = result.differences[name]
        figure.add_bar(
            x=[str(i) for i in range(len(values))], y=[d.mean if d.boards else None for d in values], name=words,
            error_y={"array": [d.half if d.boards > 1 else 0 for d in values], "thickness": 1}, marker={"color": colour},
            customdata=[d.boards for d in values], hovertemplate="layer %{x}: %{y:.3f}, %{customdata} "
                                                                 "boards<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(type="category")
    return figure


def headline(result: RolesResult) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    first = [one for one in result.held if one.start == 0]
    told = " · ".join(percent(share(one.spared)) for one in first)
    names = ", ".join(one.field for one in first)
    return (
        told,
        f"solved with {names} held still (nothing held: {percent(result.solved)}). {result.verdict.sentence}",
    )


def draw(result: RolesResult) -> Any:
    """Share of examples solved with a state held, by the iteration from which on it is."""
    figure = style.empty("Solved with one state held still", "held from iteration", "examples solved", 380)
    for field, colour in zip(result.fields, style.COLOURS * len(result.fields), strict=False):
        own = [one for one in result.held if one.field == field]
        for name in ("free", "to_end"):
            sense = "last iteration free" if name == "free" else "to the end"
            dash = "solid" if own[0].read == (name == "free") else "dot"
            figure.add_scatter(
                x=[one.start for one in own], y=[share(getattr(one, name)) for one in own],
                name=f"{style.label(field)}, {sense}", mode="lines+markers",
                line={"color": colour, "width": 3 if dash == "solid" else 2, "dash": dash},
                hovertemplate=f"{style.label(field)} held from iteration %{{x}}, {sense}: "
                              "%{y:.1%}<extra></extra>",
            )  # fmt: skip
    figure.add_hline(y=result.solved, line={"color": style.GREY, "width": 1, "dash": "dash"})
    figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


def draw_clouds(result: RolesResult) -> Any:
    """Participation ratio of each state by iteration, trained and not."""
    figure = style.empty("Directions that each state fills", "iterations run", "participation ratio", 380)
    for cloud, colour in zip(result.clouds, style.COLOURS * len(result.clouds), strict=False):
        for values, name, dash in ((cloud.ratio, "", "solid"), (cloud.untrained, ", untrained", "dot")):
            if values is not None:
                figure.add_scatter(
                    y=[None if v != v else round(v, 4) for v in values.tolist()], name=f"{style.label(cloud.field)}{name}",
                    line={"color": colour, "width": 2 if dash == "dot" else 3, "dash": dash},
                )  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    return figure


def draw_turns(result: RolesResult) -> Any:
    """Answers that change from one iteration to the next, read from each state."""
    figure = style.empty(
        "Answers that change, read from each state", "iterations run", "answers changed", 380
    )
    for field, colour in zip(result.fields, style.COLOURS * len(result.fields), strict=False):
        for t in (t for t in result.turns if t.field == field):
            held = "" if t.held is None else f", {style.label(t.held)} held"
            figure.add_scatter(
                x=list(range(1, result.iterations + 1)), y=(t.content + t.mask).tolist(),
                customdata=torch.stack([t.content, t.mask], 1).tolist(), name="read from "
                                                                              f"{style.label(field)}{held}",
                line={"color": colour, "width": 2, "dash": "solid" if t.held is None else "dot"},
                hovertemplate="by %{x}: %{customdata[0]} change content, %{customdata[1]} turn blank or "
                              "back<extra></extra>",
            )  # fmt: skip
    return figure


def panels(result: RolesResult) -> list[Panel]:
    """The finding as a report shows it."""
    first = [one for one in result.held if one.start == 0]
    told = " and ".join(f"{percent(share(one.spared))} with {one.field}" for one in first)
    a, b = result.clouds[:2]
    out = [
        Panel(
            "Can a state be spared?",
            draw(result),
            f"{result.verdict.sentence} Held from the start: {told} of {result.examples} examples are "
            f"solved; {percent(result.solved)} with nothing held (dashed).",
            f"Solid is what counts: {a.field}, which is read out, is held until the last iteration, the "
            "others to the end. Dotted: the other way round. A state that is read out and held to the end "
            "answers what it did when it was frozen.",
        ),
        Panel(
            "How many directions each state fills",
            draw_clouds(result),
            f"At the end the participation ratio is {number(float(a.ratio[-1]))} for {a.field} and "
            f"{number(float(b.ratio[-1]))} for {b.field}.",
            f"Over {result.vectors} vectors (examples × positions), the same for all curves. Dotted: the "
            "same shape of model before training.",
        ),
        Panel(
            "What each state would answer, and how often it changes",
            draw_turns(result),
            _changes(result)[0],
            "The model's read-out put on each state; it was trained on the first alone. Dotted: with the "
            "other state held from the start.",
        ),
    ]
    if result.attention is not None:
        out.append(
            Panel(
                "Where each role looks",
                difference_figure(result.attention),
                _attends(result),
                f"Per asked cell, mean over heads and iterations: the first {result.attention.inner} update "
                "of an iteration less the last; entropy the other way round. Bars above 0: the inner role "
                "is the more local. Whiskers: 95 % over boards.",
            )
        )
    return out
