"""Figures of policy: the panels and the headline that a report shows."""

from typing import Any

from loopscope.common.text import number, percent
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .measure import PolicyResult, _called, needed_for
from .stopping_methods import Way


def _short(name: str) -> str:
    return {"model": "own halting", "depth": "fixed depth"}.get(name, name)


def headline(result: PolicyResult) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    best = min(result.judged[1:], key=lambda one: one.iterations)
    return (
        f"{best.iterations:.1f} of {result.iterations}",
        f"iterations in the mean are enough for {_called(best.name)}. {result.verdict.sentence}",
    )


def draw(result: PolicyResult) -> Any:
    """Accuracy against mean iterations for each way of stopping."""
    figure = style.empty(
        "Accuracy against iterations", "mean iterations used", "fraction of answers right", 480
    )
    mean, accuracy = result.frontier
    figure.add_scatter(
        x=mean.tolist(), y=accuracy.tolist(), name="oracle", line={"color": style.GREY, "width": 2, "dash": "dash"}
    )  # fmt: skip
    dashes = ("solid", "dot", "dashdot")
    for place, one in enumerate(result.judged):
        order = one.curve.iterations.argsort()
        main = one.name in ("depth", "model")
        colour = style.COLOURS[place % len(style.COLOURS)]
        dash = dashes[place // len(style.COLOURS)]
        figure.add_scatter(
            x=one.curve.iterations[order].tolist(), y=one.curve.accuracy[order].tolist(),
            name=_short(one.name), mode="lines",
            line={"color": colour, "width": 3.5 if main else 1.75, "dash": dash},
            customdata=one.curve.thresholds[order].tolist(),
            hovertemplate=f"{style.label(_called(one.name))} at %{{customdata:.3g}}: %{{y:.1%}} right, "
                          "%{x:.2f} iterations"
            "<extra></extra>",
        )  # fmt: skip
    best = [one for one in result.judged if one.published[0] == one.published[0]]
    figure.add_scatter(
        x=[one.published[0] for one in best], y=[one.published[1] for one in best], mode="markers", name="usual threshold",
        marker={"symbol": "diamond-open", "size": 9, "color": style.GREY, "line": {"width": 2}},
        text=[_called(one.name) for one in best], hovertemplate="%{text}, usual threshold: %{y:.1%}, "
                                                                "%{x:.2f}<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(tickformat=".0%")
    figure.update_layout(margin={"t": 120})
    return figure


def panels(result: PolicyResult) -> list[Panel]:
    """The finding as a report shows it."""
    depth, best = result.named("depth"), min(result.judged[1:], key=lambda one: one.iterations)
    under = max(result.judged, key=lambda one: one.under)
    over = max(result.judged, key=lambda one: one.over)
    rows = [
        Panel(
            "Accuracy against iterations, for every way of stopping",
            draw(result),
            f"Within {result.margin:g} of full depth ({percent(result.full)} after {result.iterations}), "
            f"{_called(best.name)} needs {best.iterations:.2f} iterations in the mean, a fixed depth "
            f"{depth.iterations:.2f}, and the oracle {number(needed_for(result), 3)}.",
            "Each line is one way of stopping over its threshold; further up and to the left is better. "
            "Diamonds stand at the threshold of its source, or of the model. The oracle knows the answers.",
        ),
        Panel(
            "How far each is from the oracle",
            _bars(result),
            f"Stopped wrong though right later: at most {percent(under.under)} ({_called(under.name)}). "
            f"Stopped wrong though right earlier: at most {percent(over.over)} ({_called(over.name)}).",
            f"At each one's operating point, the fewest iterations within {result.margin:g} of full depth. "
            "Regret is what the oracle has right more with as many iterations.",
        ),
        Panel(
            "Is it right when it is sure?",
            _reliability(result, best),
            f"The largest probability where {_called(best.name)} stops has a calibration error of "
            f"{best.calibration.error:.3f}"
            + (f", the model's own halting one of {result.gate.error:.3f}." if result.gate else "."),
            "Points are bins of a tenth; on the diagonal a probability is what it says. Large points hold "
            "many answers.",
        ),
    ]
    if len(result.agreement) > 1 and bool(result.agreement.isfinite().any()):
        rows.append(
            Panel(
                "Do they stop at the same answers?",
                _agreeing(result),
                _alike(result),
                "Rank correlation between the stops of two ways at their operating points: 1 is the same "
                "order, 0 none. Empty where one stops everybody at once.",
            )
        )
    return rows


def _bars(result: PolicyResult) -> Any:
    figure = style.empty("Regret and mistaken stops", "", "fraction of answers", 360)
    names = [_short(one.name) for one in result.judged]
    for values, name, colour in (
        ([one.lost for one in result.judged], "regret", style.GREY),
        ([one.under for one in result.judged], "underthinking", style.BLUE),
        ([one.over for one in result.judged], "overthinking", style.ORANGE),
    ):
        figure.add_bar(x=names, y=values, name=name, marker={"color": colour})
    figure.update_layout(barmode="group", xaxis={"title": {"text": "way of stopping"}})
    figure.update_yaxes(tickformat=".1%")
    return figure


def _reliability(result: PolicyResult, best: Way) -> Any:
    figure = style.empty("Reliability", "probability said", "fraction right", 400)
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", showlegend=False, line={"color": style.GREY, "width": 1, "dash": "dot"}
    )  # fmt: skip
    both = [(best.calibration, f"largest probability, {_called(best.name)}", style.BLUE)]
    both += [(result.gate, "the model's own halting", style.ORANGE)] if result.gate else []
    for told, name, colour in both:
        seen = told.count > 0
        size = (6 + 14 * (told.count[seen] / told.count.max()).sqrt()).tolist()
        figure.add_scatter(
            x=told.probability[seen].tolist(), y=told.accuracy[seen].tolist(), mode="lines+markers", name=style.label(name),
            line={"color": colour, "width": 1.5}, marker={"size": size, "color": colour},
            customdata=told.count[seen].tolist(), hovertemplate="%{x:.2f} said, %{y:.1%} right of "
                                                                "%{customdata}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(range=[-0.03, 1.03])
    figure.update_yaxes(range=[-0.03, 1.05], tickformat=".0%")
    return figure


def _agreeing(result: PolicyResult) -> Any:
    names = [_short(one.name) for one in result.judged[1:]]
    cells = [[None if v != v else round(v, 3) for v in row] for row in result.agreement.tolist()]
    figure = style.empty("Rank correlation of the stops", "way of stopping", "way of stopping", 460)
    figure.add_heatmap(
        z=cells, x=names, y=names, colorscale=style.SCALE, zmax=1, colorbar=style.colourbar("rank "
                                                                                            "correlation"),
        hovertemplate="%{x} and %{y}: %{z:.2f}<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False)
    return figure


def _alike(result: PolicyResult) -> str:
    names = [one.name for one in result.judged[1:]]
    pairs = [
        (float(result.agreement[i, j]), names[i], names[j])
        for i in range(len(names))
        for j in range(i)
        if result.agreement[i, j] == result.agreement[i, j]
    ]
    if not pairs:
        return "No two ways can be compared."
    low, high = min(pairs), max(pairs)
    return (
        f"Most alike are {_called(high[1])} and {_called(high[2])} ({high[0]:.2f}), least {_called(low[1])} "
        f"and {_called(low[2])} ({low[0]:.2f})."
    )
