"""The measurement: grokking of a run. See the package for the question and its references."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.result import AnalysisResult, Verdict
from loopscope.common.text import percent
from loopscope.maths.changepoints import Dated, transitions
from loopscope.runs.run import Run
from loopscope.training.history import LEVEL, History, load_history, reached, shipped

from .milestones import Event, milestones
from .progress_measures import Progress, progress

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
class Grokking(AnalysisResult):
    """How accuracy, loss and what is inside changed over a training. Iterations k = 0..n: had the
    loop stopped there."""

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
        """The iteration, 0-based, in which the waves of a + b come into the state, at the end of
        training."""
        if self.progress.waves is None or self.progress.waves.sums.shape[1] < 2:
            return None
        return int(self.progress.waves.sums[-1].nan_to_num().diff().argmax())

    def summary(self) -> str:
        parts = [self.verdict.sentence]
        for name, when in self.transitions.items():
            last = percent(float(self.accuracy[name][-1, -1]))
            parts.append(
                f"{name}: {percent(self.level)} right from {_step(when)} on, four fifths of the rise "
                f"between steps {when.begin:,.0f} and {when.end:,.0f} (sharpness {when.sharpness:.2g})."
                if when is not None
                else f"{name}: {percent(self.level)} never reached to stay in {self.steps[-1]:,} steps "
                f"({last} at the end)."
            )
        if self.delay is not None and self.delay_low is not None and self.delay_high is not None:
            parts.append(
                f"Delay: {self.delay:,.0f} steps (90 % interval {self.delay_low:,.0f} to "
                f"{self.delay_high:,.0f})."
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
                    f"At the end the waves of a + b hold {percent(float(waves.sums[-1, formed]))} of the "
                    f"variance of the state before iteration {formed} and "
                    f"{percent(float(waves.sums[-1, formed + 1]))} after it."
                )
        parts.append(
            f"Thresholds: learned from an accuracy of {self.level:g} on, a stage from a change of "
            f"{self.least_threshold:g} on, a delay from a factor of {self.factor_threshold:g} on."
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
