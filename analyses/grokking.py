"""How did it come to understand: when did training memorise, when did it generalise, and what grew in between?

Put to a training's history (`ls.load_history`), or to a run of an entry that ships one.

Definitions, over optimiser steps:

- reached: a set's accuracy after the last iteration reaches `level` to stay, by the monotone fit through its looks
  (`loopscope.maths.transition.crossing`), with a 90 % interval. On the training set that is memorisation; on "test",
  generalisation within the distribution; on a task's further sets, such as "systematic", beyond it.
- sharpness: 1 / ln(end / begin) of the steps at which a tenth and nine tenths of the rise are done.
- delay: steps between memorisation and generalisation. Its interval takes the ends of both.
- stages: every transition between plateaus that a set's accuracy shows, at whatever height (`transitions`).
- half-way: where a measure has made half of its change between its extreme values and its end.
- for addition modulo p, against ln p, the loss of guessing: restricted loss below half of it, the waves of the key frequencies
  answer by themselves; excluded loss on the training pairs back above it, nothing else answers any more; test loss below
  half of it. The measures and their sources are told in `loopscope.maths.fourier`.

Sources: Power et al. 2022 (arXiv 2201.02177); the progress measures of Nanda et al. 2023 (arXiv 2301.05217), here after every
iteration; the delay as a difference of steps as in arXiv 2603.25009 (there at 99 %); three stages in looped models, Kohli et
al. 2026 (arXiv 2604.07822).

What can mislead:
- The key frequencies are read from the end of training. Where nothing has generalised they are merely the largest.
- A restricted loss that falls at one iteration says that the answer is read out there, not that it was computed there: look
  at the share of the states' variance, which no read-out has chosen.
- A training stopped too early looks like one without a transition. The verdict is about the steps that were made.
- One training is one draw: delays differ between seeds by factors. `loopscope sweep` repeats them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope import drawing
from loopscope.drawing import COLOURS, Panel, percent
from loopscope.finding import Finding, Verdict
from loopscope.history import History, load_history, shipped
from loopscope.maths.transition import Dated, transitions
from loopscope.milestones import LEVEL, Event, milestones, reached
from loopscope.progress import Progress, progress
from loopscope.run import Run

TITLE, PLACE, SUBJECT = "Grokking", 5, "history"
LEAST, FACTOR = 0.1, 1.5


class Understanding(Verdict):
    """What happened to what wasn't trained on."""

    nothing = "No transition: not even the training examples were learned."
    memorised = (
        "No transition happened beyond memorising: the training examples were learned, others were not."
    )
    partly = "Others than the training examples were learned in part."
    together = "Training examples and others were learned together: there is no delay to speak of."
    grokked = "It grokked: the training examples were memorised first, and understood much later."
    systematic = (
        "It understood in stages: the training examples, then others of their kind, and last those beyond."
    )


@dataclass(frozen=True)
class Grokking(Finding):
    """How accuracy, loss and what is inside changed over a training. Iterations k = 0..n: had the loop stopped there."""

    verdict: Understanding
    entry: str
    steps: list[int]
    """Of the looks."""
    accuracy: Mapping[str, Float[Tensor, "look iteration"]]
    """By set of examples."""
    loss: Mapping[str, Float[Tensor, "look iteration"]]
    """In nats per answer where the task is of tokens."""
    norm: Float[Tensor, " look"]
    """Of all weights."""
    transitions: Mapping[str, Dated | None]
    """When each set's accuracy reached the level to stay; None: never."""
    stages: Mapping[str, list[Dated]]
    """Every transition of each set's accuracy between plateaus."""
    delay: float | None
    """Steps from memorised to generalised; None where one of them didn't happen."""
    delay_low: float | None
    """Lower end of its interval."""
    delay_high: float | None
    events: list[Event]
    """In order."""
    progress: Progress
    """What grew inside, at the steps whose weights were kept."""
    level: float = LEVEL
    """Accuracy that counts as learned."""
    least_threshold: float = LEAST
    """The smallest change of accuracy that is a stage."""
    factor_threshold: float = FACTOR
    """The verdict is `together` below this ratio of the steps generalised and memorised."""

    @property
    def formed(self) -> int | None:
        """The iteration, 0-based, in which the waves of a + b come into the state, at the end of training."""
        if self.progress.waves is None or self.progress.waves.sums.shape[1] < 2:
            return None
        return int(self.progress.waves.sums[-1].nan_to_num().diff().argmax())

    def summary(self) -> str:
        parts = [self.verdict.sentence]
        for name, when in self.transitions.items():
            last = percent(float(self.accuracy[name][-1, -1]))
            parts.append(
                f"{name}: {percent(self.level)} right from {_step(when)} on, four fifths of the rise between steps "
                f"{when.begin:,.0f} and {when.end:,.0f} (sharpness {when.sharpness:.2g})."
                if when is not None
                else f"{name}: {percent(self.level)} never reached to stay in {self.steps[-1]:,} steps ({last} at the end)."
            )
        if self.delay is not None and self.delay_low is not None and self.delay_high is not None:
            parts.append(
                f"Delay: {self.delay:,.0f} steps (90 % interval {self.delay_low:,.0f} to {self.delay_high:,.0f})."
            )
        if self.events:
            order = ", then ".join(f"{event.what} ({event.when.step:,.0f})" for event in self.events)
            parts.append(f"Order of events, by step: {order}.")
        waves = self.progress.waves
        if waves is not None:
            keys, formed = ", ".join(map(str, waves.frequencies)), self.formed
            parts.append(f"Key frequencies: {keys}.")
            if formed is not None:
                parts.append(
                    f"At the end the waves of a + b hold {percent(float(waves.sums[-1, formed]))} of the variance of the state "
                    f"before iteration {formed} and {percent(float(waves.sums[-1, formed + 1]))} after it."
                )
        parts.append(
            f"Thresholds: learned from an accuracy of {self.level:g} on, a stage from a change of {self.least_threshold:g} on, "
            f"a delay from a factor of {self.factor_threshold:g} on."
        )
        return " ".join(parts)


def applies(run: Run) -> bool:
    """Whether the run is of an entry that ships its history."""
    return run.origin.get("entry") in shipped()


def measure(run: Run | History, level: float = LEVEL) -> Grokking:
    """How a training came to understand.

    Arguments:
        run: a history, or a run of an entry that ships one.
        level: the accuracy that counts as learned.

    Raises:
        LoopscopeError: there is no history.
    """
    history = run if isinstance(run, History) else load_history(str(run.origin.get("entry")))
    steps = torch.tensor(history.steps, dtype=torch.float64)
    accuracy = {name: history.accuracy(name) for name in history.sets}
    loss = {name: history.loss(name) for name in history.sets}
    learned = reached(history, level)
    stages = {name: transitions(steps, values[:, -1], LEAST) for name, values in accuracy.items()}
    grown = progress(history)
    delay, low, high = _delay(learned)
    return Grokking(
        verdict=_verdict(learned, stages),
        entry=history.entry,
        steps=history.steps,
        accuracy=accuracy,
        loss=loss,
        norm=history.norm,
        transitions=learned,
        stages=stages,
        delay=delay,
        delay_low=low,
        delay_high=high,
        events=milestones(history, grown, learned, level),
        progress=grown,
        level=level,
    )


def _verdict(learned: Mapping[str, Dated | None], stages: Mapping[str, list[Dated]]) -> Understanding:
    train, test = learned["train"], learned["test"]
    if train is None:
        return Understanding.nothing
    if test is None:
        rose = any(stage.after > stage.before for stage in stages["test"])
        return Understanding.partly if rose else Understanding.memorised
    further = [when for name, when in learned.items() if name not in ("train", "test") and when is not None]
    if any(when.low > test.high and when.step >= FACTOR * train.step for when in further):
        return Understanding.systematic
    late = test.low > train.high and test.step >= FACTOR * train.step
    return Understanding.grokked if late else Understanding.together


def _delay(learned: Mapping[str, Dated | None]) -> tuple[float | None, float | None, float | None]:
    train, test = learned["train"], learned["test"]
    if train is None or test is None:
        return None, None, None
    return test.step - train.step, test.low - train.high, test.high - train.low


def _step(when: Dated) -> str:
    return f"step {when.step:,.0f} (90 % interval {when.low:,.0f} to {when.high:,.0f})"


def headline(found: Grokking) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    if found.delay is not None and found.verdict in (Understanding.grokked, Understanding.systematic):
        return f"{found.delay:,.0f} steps", f"from memorised to generalised. {found.verdict.sentence}"
    return found.verdict.name, found.verdict.sentence


def draw(found: Grokking) -> Any:
    """Accuracy over the steps of training, by set of examples, after the last iteration."""
    figure = drawing.over_steps(
        f"What was right when, in training {found.entry}", "fraction of answers right"
    )
    for colour, (name, values) in zip(COLOURS, found.accuracy.items(), strict=False):
        drawing.step_line(figure, found.steps, values[:, -1], name, colour=colour, hover="%{y:.1%} right")
        when = found.transitions[name]
        if when is not None:
            figure.add_vrect(
                x0=max(when.low, 1), x1=max(when.high, 1), fillcolor=colour, opacity=0.18, line_width=0
            )
            figure.add_vline(x=max(when.step, 1), line={"color": colour, "width": 1, "dash": "dot"})
    figure.add_hline(y=found.level, line={"color": drawing.GREY, "width": 1, "dash": "dot"})
    figure.update_yaxes(range=[-0.02, 1.02])
    return figure


def panels(found: Grokking) -> list[Panel]:
    """The finding as a report shows it."""
    told = found.summary()
    last = {name: percent(float(values[-1, -1])) for name, values in found.accuracy.items()}
    rows = [
        Panel(
            "Memorised, then understood",
            draw(found),
            f"{found.verdict.sentence} At the end: {', '.join(f'{name} {value}' for name, value in last.items())} right.",
            "A dotted line is where a set's accuracy reaches the level (horizontal) to stay, the band its 90 % interval.",
        ),
        Panel(
            "What training lowers, and what it hides",
            _losses(found),
            told.split(" Order of events", 1)[0].split(". ", 1)[-1],
            "Both axes are logarithmic. Dashed lines are measured at the kept weights: the answer from the waves of the key "
            "frequencies alone (restricted), and the training answers without them (excluded)."
            if found.progress.waves is not None
            else "Both axes are logarithmic.",
        ),
        Panel(
            "In which iteration the answer is there",
            _by_iteration(found),
            _iterations_seen(found),
            "Each row is the answer had the loop stopped after so many iterations; each column a look at the training.",
        ),
    ]
    if found.events:
        first, final = found.events[0], found.events[-1]
        seen = f"First: {first.what}, at step {first.when.step:,.0f}. Last: {final.what}, at step {final.when.step:,.0f}."
        reading = "A point is the step at which it happened, the line its 90 % interval."
        rows.append(Panel("What happened in which order", _order(found), seen, reading))
    if found.progress.waves is not None:
        rows += _inside(found)
    return rows


def _inside(found: Grokking) -> list[Panel]:
    waves = found.progress.waves
    assert waves is not None
    formed = found.formed
    seen = f"After the last iteration {percent(float(waves.sums[-1, -1]))} of the state's variance are waves of a + b."
    if formed is not None:
        seen = (
            f"They come in iteration {formed}: from {percent(float(waves.sums[-1, formed]))} of the variance before it to "
            f"{percent(float(waves.sums[-1, formed + 1]))} after it, at the end of training."
        )
    return [
        Panel(
            "Where the sum is made",
            _sums(found),
            seen,
            "Solid: the fraction of the variance of the answering state that is waves of a + b at the key frequencies, after k "
            "iterations. Dashed: waves of a or of b alone, of which the sum is made.",
        ),
        Panel(
            "How concentrated it became",
            _concentration(found),
            f"The Gini coefficient of the embedding's Fourier components goes from {float(waves.embedding[0]):.2f} to "
            f"{float(waves.embedding[-1]):.2f}, the weights' norm from {float(found.norm[0]):.1f} to "
            f"{float(found.norm[-1]):.1f}.",
            "0: every frequency is used alike; near 1: a few have all. The weight norm is drawn as a fraction of its highest "
            "value, the effective rank of the last state as a fraction of its highest.",
        ),
    ]


def _losses(found: Grokking) -> Any:
    figure = drawing.over_steps("Loss", "loss (nats per answer)")
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    for colour, (name, values) in zip(COLOURS, found.loss.items(), strict=False):
        drawing.step_line(
            figure, found.steps, values[:, -1].clamp(min=1e-9), name, colour=colour, hover="%{y:.3g} nats"
        )
    waves = found.progress.waves
    if waves is not None:
        kept = found.progress.steps
        drawing.step_line(
            figure,
            kept,
            waves.restricted[:, -1].clamp(min=1e-9),
            "restricted",
            colour=drawing.GREEN,
            hover="%{y:.3g} nats",
            dash="dash",
        )
        drawing.step_line(
            figure,
            kept,
            waves.excluded[:, -1],
            "excluded",
            colour=drawing.PURPLE,
            hover="%{y:.3g} nats",
            dash="dash",
        )
        figure.add_hline(y=waves.chance, line={"color": drawing.GREY, "width": 1, "dash": "dot"})
    return figure


def _by_iteration(found: Grokking) -> Any:
    values = found.accuracy["test"]
    figure = drawing.over_steps("Accuracy on test examples, had the loop stopped", "iterations", 260)
    figure.add_heatmap(
        x=[max(step, 1) for step in found.steps], y=list(range(values.shape[1])), z=values.T.tolist(),
        colorscale=drawing.SCALE, zmin=0, zmax=1, colorbar=drawing.colourbar("fraction right"),
        hovertemplate="step %{x}, after %{y} iterations: %{z:.1%}<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", dtick=1, showgrid=False)
    return figure


def _iterations_seen(found: Grokking) -> str:
    final = found.accuracy["test"][-1]
    told = ", ".join(f"{percent(float(value))} after {k}" for k, value in enumerate(final))
    return f"On test examples at the end of training: {told}."


def _order(found: Grokking) -> Any:
    events = found.events[::-1]
    figure = drawing.over_steps("Order of events", "", 90 + 34 * len(events))
    at = [max(event.when.step, 1) for event in events]
    figure.add_scatter(
        x=at, y=[event.what for event in events], mode="markers", marker={"size": 9, "color": drawing.BLUE},
        error_x={
            "type": "data", "symmetric": False, "color": drawing.SKY,
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


def _sums(found: Grokking) -> Any:
    waves = found.progress.waves
    assert waves is not None
    figure = drawing.over_steps("Waves in the state that answers", "fraction of its variance")
    for k in range(1, waves.sums.shape[1]):
        colour = COLOURS[(k - 1) % len(COLOURS)]
        drawing.step_line(
            figure,
            found.progress.steps,
            waves.sums[:, k],
            f"a + b, after {k}",
            colour=colour,
            hover="%{y:.1%}",
        )
        drawing.step_line(
            figure,
            found.progress.steps,
            waves.alone[:, k],
            f"a or b, after {k}",
            colour=colour,
            hover="%{y:.1%}",
            dash="dash",
        )
    return figure


def _concentration(found: Grokking) -> Any:
    waves, kept = found.progress.waves, found.progress.steps
    assert waves is not None
    figure = drawing.over_steps("Concentration, rank and norm", "coefficient, or fraction of the highest")
    drawing.step_line(figure, kept, waves.embedding, "Gini, embedding", colour=drawing.BLUE, hover="%{y:.2f}")
    drawing.step_line(
        figure, kept, waves.concentration[:, -1], "Gini, last state", colour=drawing.GREEN, hover="%{y:.2f}"
    )
    rank = found.progress.rank[:, -1]
    drawing.step_line(
        figure,
        kept,
        rank / rank.max(),
        "effective rank, last state",
        colour=drawing.ORANGE,
        hover="%{y:.2f} of the highest",
    )
    drawing.step_line(
        figure,
        found.steps,
        found.norm / found.norm.max(),
        "weight norm",
        colour=drawing.PURPLE,
        hover="%{y:.2f} of the highest",
    )
    return figure
