"""Figures of grokking: the panels and the headline that a report shows."""

from typing import Any

from loopscope.common.text import percent
from loopscope.plots import style
from loopscope.plots.panels import Panel
from loopscope.plots.style import COLOURS

from .measure import Grokking, Understanding


def headline(result: Grokking) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    if result.delay is not None and result.verdict in (Understanding.grokked, Understanding.systematic):
        return f"{result.delay:,.0f} steps", f"from memorised to generalised. {result.verdict.sentence}"
    return result.verdict.name, result.verdict.sentence


def draw(result: Grokking) -> Any:
    """Accuracy over the steps of training, by set of examples, after the last iteration."""
    figure = style.over_steps(f"What was right when, in training {result.entry}", "fraction of answers right")
    for colour, (name, values) in zip(COLOURS, result.accuracy.items(), strict=False):
        style.step_line(figure, result.steps, values[:, -1], name, colour=colour, hover="%{y:.1%} right")
        when = result.transitions[name]
        if when is not None:
            figure.add_vrect(
                x0=max(when.low, 1), x1=max(when.high, 1), fillcolor=colour, opacity=0.18, line_width=0
            )
            figure.add_vline(x=max(when.step, 1), line={"color": colour, "width": 1, "dash": "dot"})
    figure.add_hline(y=result.level, line={"color": style.GREY, "width": 1, "dash": "dot"})
    figure.update_yaxes(range=[-0.02, 1.02])
    return figure


def panels(result: Grokking) -> list[Panel]:
    """The finding as a report shows it."""
    told = result.summary()
    last = {name: percent(float(values[-1, -1])) for name, values in result.accuracy.items()}
    rows = [
        Panel(
            "Memorised, then understood",
            draw(result),
            f"{result.verdict.sentence} At the end: "
            f"{', '.join(f'{name} {value}' for name, value in last.items())} right.",
            "A dotted line is where a set's accuracy reaches the level (horizontal) to stay, the band its "
            "90 % interval.",
        ),
        Panel(
            "What training lowers, and what it hides",
            _losses(result),
            told.split(" Order of events", 1)[0].split(". ", 1)[-1],
            "Both axes are logarithmic. Dashed lines are measured at the kept weights: the answer from the "
            "waves of the key frequencies alone (restricted), and the training answers without them "
            "(excluded)."
            if result.progress.waves is not None
            else "Both axes are logarithmic.",
        ),
        Panel(
            "In which iteration the answer is there",
            _by_iteration(result),
            _iterations_seen(result),
            "Each row is the answer had the loop stopped after so many iterations; each column a look at "
            "the training.",
        ),
    ]
    if result.events:
        first, final = result.events[0], result.events[-1]
        seen = f"First: {first.what}, at step {first.when.step:,.0f}. Last: {final.what}, at step {final.when.step:,.0f}."
        reading = "A point is the step at which it happened, the line its 90 % interval."
        rows.append(Panel("What happened in which order", _order(result), seen, reading))
    if result.progress.waves is not None:
        rows += _inside(result)
    return rows


def _inside(result: Grokking) -> list[Panel]:
    waves = result.progress.waves
    assert waves is not None
    formed = result.formed
    seen = f"After the last iteration {percent(float(waves.sums[-1, -1]))} of the state's variance are waves of a + b."
    if formed is not None:
        seen = (
            f"They come in iteration {formed}: from {percent(float(waves.sums[-1, formed]))} of the "
            f"variance before it to {percent(float(waves.sums[-1, formed + 1]))} after it, at the end of "
            "training."
        )
    return [
        Panel(
            "Where the sum is made",
            _sums(result),
            seen,
            "Solid: the fraction of the variance of the answering state that is waves of a + b at the key "
            "frequencies, after k iterations. Dashed: waves of a or of b alone, of which the sum is made.",
        ),
        Panel(
            "How concentrated it became",
            _concentration(result),
            "The Gini coefficient of the embedding's Fourier components goes from "
            f"{float(waves.embedding[0]):.2f} to {float(waves.embedding[-1]):.2f}, the weights' norm from "
            f"{float(result.norm[0]):.1f} to {float(result.norm[-1]):.1f}.",
            "0: every frequency is used alike; near 1: a few have all. The weight norm is drawn as a "
            "fraction of its highest value, the effective rank of the last state as a fraction of its "
            "highest.",
        ),
    ]


def _losses(result: Grokking) -> Any:
    figure = style.over_steps("Loss", "loss (nats per answer)")
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    for colour, (name, values) in zip(COLOURS, result.loss.items(), strict=False):
        style.step_line(
            figure, result.steps, values[:, -1].clamp(min=1e-9), name, colour=colour, hover="%{y:.3g} nats"
        )
    waves = result.progress.waves
    if waves is not None:
        kept = result.progress.steps
        style.step_line(
            figure,
            kept,
            waves.restricted[:, -1].clamp(min=1e-9),
            "restricted",
            colour=style.GREEN,
            hover="%{y:.3g} nats",
            dash="dash",
        )
        style.step_line(
            figure,
            kept,
            waves.excluded[:, -1],
            "excluded",
            colour=style.PURPLE,
            hover="%{y:.3g} nats",
            dash="dash",
        )
        figure.add_hline(y=waves.chance, line={"color": style.GREY, "width": 1, "dash": "dot"})
    return figure


def _by_iteration(result: Grokking) -> Any:
    values = result.accuracy["test"]
    figure = style.over_steps("Accuracy on test examples, had the loop stopped", "iterations", 260)
    figure.add_heatmap(
        x=[max(step, 1) for step in result.steps], y=list(range(values.shape[1])), z=values.T.tolist(),
        colorscale=style.SCALE, zmin=0, zmax=1, colorbar=style.colourbar("fraction right"),
        hovertemplate="step %{x}, after %{y} iterations: %{z:.1%}<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", dtick=1, showgrid=False)
    return figure


def _iterations_seen(result: Grokking) -> str:
    final = result.accuracy["test"][-1]
    told = ", ".join(f"{percent(float(value))} after {k}" for k, value in enumerate(final))
    return f"On test examples at the end of training: {told}."


def _order(result: Grokking) -> Any:
    events = result.events[::-1]
    figure = style.over_steps("Order of events", "", 90 + 34 * len(events))
    at = [max(event.when.step, 1) for event in events]
    figure.add_scatter(
        x=at, y=[event.what for event in events], mode="markers", marker={"size": 9, "color": style.BLUE},
        error_x={
            "type": "data", "symmetric": False, "color": style.SKY,
            "array": [max(event.when.high - event.when.step, 0) for event in events],
            "arrayminus": [max(event.when.step - max(event.when.low, 1), 0) for event in events],
        },
        hovertemplate="%{y}: step %{x:,.0f}<extra></extra>",
    )  # fmt: skip
    marks = [
        mark * 10**power for power in range(8) for mark in (1, 2, 5)
    ]  # events may lie within a factor of ten
    figure.update_xaxes(tickvals=marks, tickformat=",")
    return figure


def _sums(result: Grokking) -> Any:
    waves = result.progress.waves
    assert waves is not None
    figure = style.over_steps("Waves in the state that answers", "fraction of its variance")
    for k in range(1, waves.sums.shape[1]):
        colour = COLOURS[(k - 1) % len(COLOURS)]
        style.step_line(
            figure,
            result.progress.steps,
            waves.sums[:, k],
            f"a + b, after {k}",
            colour=colour,
            hover="%{y:.1%}",
        )
        style.step_line(
            figure,
            result.progress.steps,
            waves.alone[:, k],
            f"a or b, after {k}",
            colour=colour,
            hover="%{y:.1%}",
            dash="dash",
        )
    return figure


def _concentration(result: Grokking) -> Any:
    waves, kept = result.progress.waves, result.progress.steps
    assert waves is not None
    figure = style.over_steps("Concentration, rank and norm", "coefficient, or fraction of the highest")
    style.step_line(figure, kept, waves.embedding, "Gini, embedding", colour=style.BLUE, hover="%{y:.2f}")
    style.step_line(
        figure, kept, waves.concentration[:, -1], "Gini, last state", colour=style.GREEN, hover="%{y:.2f}"
    )
    rank = result.progress.rank[:, -1]
    style.step_line(
        figure,
        kept,
        rank / rank.max(),
        "effective rank, last state",
        colour=style.ORANGE,
        hover="%{y:.2f} of the highest",
    )
    style.step_line(
        figure,
        result.steps,
        result.norm / result.norm.max(),
        "weight norm",
        colour=style.PURPLE,
        hover="%{y:.2f} of the highest",
    )
    return figure
