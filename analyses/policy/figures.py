"""Accuracy against iterations, regret and mistaken stops, reliability, agreement of the stops."""

from typing import TYPE_CHECKING

from loopscope.common.text import number, percent
from loopscope.halting.exit_rules import RULES
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .exit_methods import DEPTH, MODEL, ExitMethod
from .measure import PolicyResult, oracle_iterations

if TYPE_CHECKING:
    import plotly.graph_objects as go


def headline(result: PolicyResult) -> tuple[str, str]:
    """The result in one number, and what the number is."""
    best = result.best
    return (
        f"{best.iterations:.1f} of {result.iterations}",
        f"iterations, mean, with which {best.label} comes within {100 * result.margin:g} point of all of "
        f"them ({percent(best.accuracy)} correct; chosen here); a fixed depth needs "
        f"{result.method(DEPTH).iterations:.0f}",
    )


def draw(result: PolicyResult) -> "go.Figure":
    """Accuracy against mean iterations for each exit method."""
    figure = style.empty("Accuracy against iterations", "iterations run (k), mean", "answers correct", 480)
    mean, accuracy = result.frontier
    figure.add_scatter(
        x=mean.tolist(),
        y=accuracy.tolist(),
        name="oracle",
        line={"color": style.GREY, "width": 2, "dash": "dash"},
    )
    dashes = ("solid", "dot", "dashdot")
    for i, method in enumerate(result.methods):
        order = method.curve.iterations.argsort()
        colour, dash = style.COLOURS[i % len(style.COLOURS)], dashes[i // len(style.COLOURS)]
        figure.add_scatter(
            x=method.curve.iterations[order].tolist(),
            y=method.curve.accuracy[order].tolist(),
            name=_short(method),
            mode="lines",
            line={"color": colour, "width": 3.5 if method.name in (DEPTH, MODEL) else 1.75, "dash": dash},
            customdata=method.curve.thresholds[order].tolist(),
            hovertemplate=f"{style.label(method.label)} at %{{customdata:.3g}}: %{{y:.1%}} right, "
            "%{x:.2f} iterations<extra></extra>",
        )
    published = [method for method in result.methods if method.published[0] == method.published[0]]
    figure.add_scatter(
        x=[method.published[0] for method in published],
        y=[method.published[1] for method in published],
        mode="markers",
        name="published threshold",
        marker={"symbol": "diamond-open", "size": 9, "color": style.GREY, "line": {"width": 2}},
        text=[style.label(method.label) for method in published],
        hovertemplate="%{text}, published threshold: %{y:.1%}, %{x:.2f}<extra></extra>",
    )
    figure.update_yaxes(tickformat=".0%")
    figure.update_layout(margin={"t": 120})
    return figure


def panels(result: PolicyResult) -> list[Panel]:
    """The panels of a report."""
    depth, best = result.method(DEPTH), result.best
    under = max(result.methods, key=lambda method: method.underthinking)
    over = max(result.methods, key=lambda method: method.overthinking)
    rows = [
        Panel(
            "Accuracy against iterations",
            draw(result),
            f"{result.comparison_sentence()} With thresholds chosen on all examples, to come within "
            f"{result.margin:g} of full depth ({percent(result.full)} after "
            f"{result.iterations}), {best.label} needs {best.iterations:.2f} iterations on average, a fixed "
            f"depth {depth.iterations:.2f}, and the oracle {number(oracle_iterations(result), 3)}.",
            "Each line sweeps the threshold of one exit rule; further up and to the left is better. "
            "Diamonds: the published threshold, or the model's own, of which its line has others, too. The "
            "oracle knows the right answers. The table says what each rule reads.",
        ),
        Panel(
            "Early-exit criteria",
            _table(result),
            f"{len(result.methods) - 1} early-exit criteria were compared with a fixed depth. "
            f"{result.accuracy_sentence()}",
            "A rule stops an answer when its quantity is at or on the side of its threshold that the table "
            "says. Iterations and accuracy are those at the operating point.",
        ),
        Panel(
            "Regret, underthinking and overthinking",
            _bars(result),
            "Underthinking: stopped at a wrong answer that would have become right, at most "
            f"{percent(under.underthinking)} ({under.label}). Overthinking: stopped at a wrong answer that "
            f"had been right, at most {percent(over.overthinking)} ({over.label}).",
            f"At each method's operating point, the fewest iterations within {result.margin:g} of full "
            "depth. Regret is the oracle's accuracy with as many iterations minus the method's.",
        ),
        Panel(
            "Calibration",
            _reliability(result, best),
            result.calibration_sentence(),
            "Points are bins of a tenth; on the diagonal a probability equals the fraction right. Larger "
            "points hold more answers.",
        ),
    ]
    if len(result.agreement) > 1 and bool(result.agreement.isfinite().any()):
        rows.append(
            Panel(
                "Agreement of the stops",
                _agreement(result),
                _agreement_sentence(result),
                "Rank correlation between the stops of two methods at their operating points: 1 is the same "
                "order, 0 no relation. Empty where a method stops all items at once.",
            )
        )
    return rows


def _table(result: PolicyResult) -> "go.Figure":
    """What each exit method reads, and what it costs."""
    rows = [
        (
            method.name.replace("depth", "fixed depth").replace(MODEL, "model's halting"),
            method.condition,
            "" if method.name not in RULES else "above" if RULES[method.name].stops_above else "below",
            f"{method.iterations:.2f}",
            percent(method.accuracy),
        )
        for method in result.methods
    ]
    header = ["criterion", "quantity", "stops", "iterations run, mean", "answers correct"]
    figure = style.empty("Early-exit criteria", "", "", 100 + 30 * len(rows))
    look = {"fill": {"color": "rgba(0,0,0,0)"}, "line": {"color": style.FAINT}, "align": "left"}
    figure.add_table(
        header={"values": header, **look},
        cells={
            "values": [[style.label(cell) for cell in column] for column in zip(*rows, strict=True)],
            **look,
        },
        columnwidth=[2, 5, 1, 2, 2],
    )
    return figure


def _short(method: ExitMethod) -> str:
    names = {MODEL: "model's halting", DEPTH: "fixed depth"}
    return style.label(names.get(method.name, method.name))


def _bars(result: PolicyResult) -> "go.Figure":
    figure = style.empty("Regret and mistaken stops", "exit method", "fraction of answers", 360)
    names = [_short(method) for method in result.methods]
    for values, name, colour in (
        ([method.regret for method in result.methods], "regret", style.GREY),
        ([method.underthinking for method in result.methods], "underthinking", style.BLUE),
        ([method.overthinking for method in result.methods], "overthinking", style.ORANGE),
    ):
        figure.add_bar(x=names, y=values, name=name, marker={"color": colour})
    figure.update_layout(barmode="group")
    figure.update_yaxes(tickformat=".1%")
    return figure


def _reliability(result: PolicyResult, best: ExitMethod) -> "go.Figure":
    figure = style.empty("Reliability", "probability", "fraction right", 400)
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        showlegend=False,
        line={"color": style.GREY, "width": 1, "dash": "dot"},
    )
    curves = [(best.calibration, f"largest probability, {best.label}", style.BLUE)]
    curves += [(result.gate, "the model's own halting", style.ORANGE)] if result.gate else []
    for calibration, name, colour in curves:
        present = calibration.count > 0
        counts = calibration.count[present]
        figure.add_scatter(
            x=calibration.probability[present].tolist(),
            y=calibration.accuracy[present].tolist(),
            mode="lines+markers",
            name=style.label(name),
            line={"color": colour, "width": 1.5},
            marker={"size": (6 + 14 * (counts / counts.max()).sqrt()).tolist(), "color": colour},
            customdata=counts.tolist(),
            hovertemplate="probability %{x:.2f}: %{y:.1%} right of %{customdata}<extra></extra>",
        )
    figure.update_xaxes(range=[-0.03, 1.03])
    figure.update_yaxes(range=[-0.03, 1.05], tickformat=".0%")
    return figure


def _agreement(result: PolicyResult) -> "go.Figure":
    names = [_short(method) for method in result.methods[1:]]
    figure = style.empty("Rank correlation of the stops", "exit method", "exit method", 460)
    figure.add_heatmap(
        z=[[None if v != v else round(v, 3) for v in row] for row in result.agreement.tolist()],
        x=names,
        y=names,
        colorscale=style.SCALE,
        zmax=1,
        colorbar=style.colourbar("rank correlation"),
        hovertemplate="%{x} and %{y}: %{z:.2f}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False)
    return figure


def _agreement_sentence(result: PolicyResult) -> str:
    labels = [method.label for method in result.methods[1:]]
    pairs = [
        (float(result.agreement[i, j]), labels[i], labels[j])
        for i in range(len(labels))
        for j in range(i)
        if result.agreement[i, j] == result.agreement[i, j]
    ]
    if not pairs:
        return "No two methods can be compared."
    low, high = min(pairs), max(pairs)
    return (
        f"The correlation is highest between {high[1]} and {high[2]} ({high[0]:.2f}), lowest between "
        f"{low[1]} and {low[2]} ({low[0]:.2f})."
    )
