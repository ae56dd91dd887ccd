"""When each set of examples was learned, the delay between them, stages, milestones and progress
measures."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.arguments import Share
from loopscope.common.text import percent
from loopscope.maths.changepoints import Dated, transitions
from loopscope.runs.run import Run
from loopscope.training.history import LEVEL, History, learning_times, load_history, shipped_histories

from .milestones import Milestone, milestones
from .progress_measures import ProgressMeasures, progress_measures
from .verdict import DELAY_FACTOR, MIN_STAGE, GrokkingVerdict, grokking_verdict

SHARE = "accuracy"
"""The score that is a share of examples, so that a sample of them leaves an interval."""


@dataclass(frozen=True)
class GrokkingResult(AnalysisResult):
    """How accuracy, loss and progress measures changed over a training. Iterations k = 0..n: as if
    the loop had stopped there."""

    verdict: GrokkingVerdict
    entry: str
    steps: list[int]
    """Of the evaluations."""
    accuracy: Mapping[str, Float[Tensor, "evaluation iteration"]]
    """By set of examples."""
    loss: Mapping[str, Float[Tensor, "evaluation iteration"]]
    """In nats per answer where the task is of tokens."""
    norm: Float[Tensor, " evaluation"]
    """Of all weights."""
    transitions: Mapping[str, Dated | None]
    """When each set's accuracy reached the level for good; None: never."""
    stages: Mapping[str, list[Dated]]
    """Every transition of each set's accuracy between plateaus."""
    delay: float | None
    """Steps from memorisation to generalisation; None where one of them didn't happen."""
    delay_low: float | None
    """Lower end of its 95 % interval; NaN where it can't be known."""
    delay_high: float | None
    """Its upper end."""
    milestones: list[Milestone]
    """In order."""
    progress: ProgressMeasures
    """At the checkpoints."""
    level: float = LEVEL
    """Accuracy that counts as learned."""
    min_stage: float = MIN_STAGE
    """The smallest change of accuracy that is a stage."""
    delay_factor: float = DELAY_FACTOR
    """The verdict is `together` below this ratio of the steps of generalisation and
    memorisation."""

    @property
    def sum_iteration(self) -> int | None:
        """The iteration, 0-based, in which most of the Fourier components of a + b enter the state,
        at the end of training."""
        fourier = self.progress.fourier
        if fourier is None or fourier.sum_fraction.shape[1] < 2:
            return None
        return int(fourier.sum_fraction[-1].nan_to_num().diff().argmax())

    @property
    def set_sentences(self) -> list[str]:
        """When each set was learned, in words."""
        sentences = []
        for name, date in self.transitions.items():
            if date is None:
                final = percent(float(self.accuracy[name][-1, -1]))
                sentences.append(
                    f"{name}: never stays at {percent(self.level)} correct in {self.steps[-1]:,} steps "
                    f"({final} at the end)."
                )
            else:
                sentences.append(
                    f"{name}: {percent(self.level)} correct from step {date.step:,.0f} on (90 % interval "
                    f"{date.low:,.0f} to {date.high:,.0f}), four fifths of the rise between steps "
                    f"{date.begin:,.0f} and {date.end:,.0f} (sharpness {date.sharpness:.2g})."
                )
        if self.delay is not None and self.delay_low is not None and self.delay_high is not None:
            known = self.delay_low == self.delay_low
            interval = f" (95 % interval {self.delay_low:,.0f} to {self.delay_high:,.0f})" if known else ""
            sentences.append(f"Delay: {self.delay:,.0f} steps{interval}.")
        return sentences

    @property
    def sum_sentence(self) -> str:
        """The key frequencies, and the iteration that computes the sum; empty for other tasks."""
        fourier, iteration = self.progress.fourier, self.sum_iteration
        if fourier is None:
            return ""
        frequencies = f"Key frequencies: {', '.join(map(str, fourier.frequencies))}."
        if iteration is None:
            return frequencies
        before, after = (percent(float(fourier.sum_fraction[-1, iteration + i])) for i in (0, 1))
        return (
            f"{frequencies} At the end of training, Fourier components of a + b hold {before} of the "
            f"variance of the state before iteration {iteration} and {after} after it."
        )

    def summary(self) -> str:
        parts = [self.sentence, self.evidence.how, *self.set_sentences]
        if self.milestones:
            order = ", then ".join(one.text for one in self.milestones)
            parts.append(f"Milestones, by step, with the looks before and after: {order}.")
        parts += [
            self.sum_sentence,
            f"Thresholds: learned from an accuracy of {self.level:g} on, a stage from a change of "
            f"{self.min_stage:g} on, a delay from a factor of {self.delay_factor:g} on.",
        ]
        return " ".join(part for part in parts if part)


def applies(run: Run) -> bool:
    """Whether the run is of an entry that ships its history."""
    return run.origin.get("entry") in shipped_histories()


def measure(run: Run | History, level: Share = LEVEL) -> GrokkingResult:
    """Measure how a training came to generalise.

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
    learned = learning_times(history, level)
    stages = {name: _stages(steps, values[:, -1]) for name, values in accuracy.items()}
    progress = progress_measures(history)
    final = {name: values[:, -1] for name, values in accuracy.items()}
    sampled = {name: history.sampled(name) if history.task.score == SHARE else None for name in accuracy}
    verdict, evidence = grokking_verdict(history.steps, final, level, sampled)
    delay = evidence.estimates[0] if evidence.estimates else None
    return GrokkingResult(
        verdict=verdict,
        evidence=evidence,
        entry=history.entry,
        steps=history.steps,
        accuracy=accuracy,
        loss=loss,
        norm=history.norm,
        transitions=learned,
        stages=stages,
        delay=None if delay is None else delay.value,
        delay_low=None if delay is None else delay.low,
        delay_high=None if delay is None else delay.high,
        milestones=milestones(history, progress, learned, level),
        progress=progress,
        level=level,
    )


def _stages(steps: Tensor, values: Tensor) -> list[Dated]:
    known = values.isfinite()
    return transitions(steps[known], values[known], MIN_STAGE) if known.any() else []
