"""The sentences of a sweep's page, made from its numbers: about delays or, without histories, about
last scores."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..maths.changepoints import LEAST
from .censored_median import CensoredMedian
from .conditions import Condition
from .sweep_result import SweepResult

_SIGNS = (
    "● generalised, ◐ memorised but did not generalise, ○ neither, × failed, – not trained yet, · no dates"
)


@dataclass(frozen=True)
class Captions:
    """The page's sentences."""

    by_delay: bool
    """Whether the page shows delays, which are known from histories; otherwise last scores."""
    score: str
    """The task's score, such as "accuracy"."""

    @property
    def quantity(self) -> str:
        """The name of the quantity that the page shows, with its unit."""
        return "delay (optimiser steps)" if self.by_delay else f"last {self.score}"

    @property
    def phase_reading(self) -> str:
        """How to read the phase diagram."""
        if self.by_delay:
            return (
                "Colour and number: the median over seeds of the steps from memorised (train) to "
                "generalised (test). A cell without colour has no median: at least half of its seeds had "
                f"not generalised when their training ended. One sign for each seed: {_SIGNS}."
            )
        return (
            f"Colour and number: the median over seeds of the last {self.score} on fresh examples. No "
            f"histories of {LEAST} looks or more were kept, so it is not known when each seed learned."
        )

    @property
    def seed_reading(self) -> str:
        """How to read the figure of all seeds."""
        bar = (
            "The bar holds 95 % of the medians of 2,000 bootstrap samples of the seeds. With fewer than "
            "about six seeds it is rough: hardly more than their range."
        )
        if not self.by_delay:
            return f"A row is a condition, a dot a seed. {bar}"
        return (
            "A row is a condition, a dot a seed. A triangle is a seed that memorised and had not "
            "generalised when its training ended: its delay is longer than that, and the median counts "
            "it as such (Kaplan-Meier). A seed that did not memorise has no delay and is left out. A bar "
            f"that ends in a triangle has no upper end. {bar}"
        )

    def format(self, value: float) -> str:
        """A delay or a score as text."""
        return f"{value:,.0f}" if self.by_delay else f"{value:.3f}"

    def short(self, condition: Condition) -> str:
        """The condition's median as text."""
        m = condition.median
        if m is None:
            return "none"
        if m.value is not None:
            return self.format(m.value)
        # every delay is at least its bound, so their median is at least that of the bounds
        return f"> {self.format(statistics.median([*condition.values, *condition.bounds]))}"

    def seeds(self, condition: Condition) -> str:
        """A sign for each seed or, without histories, the number of seeds."""
        if self.by_delay:
            return condition.signs
        count = len(condition.values)
        return ", ".join([f"{count} seed{'s' * (count != 1)}", *_status_counts(condition)])

    def long(self, condition: Condition) -> str:
        """The condition's median, interval and phases."""
        parts = [f"{condition.label}: {self.interval(condition.median)}"]
        if self.by_delay:
            for phase in ("generalised", "memorised", "neither"):
                if count := sum(result.phase == phase for result in condition.results):
                    parts.append(f"{count} {phase}")
        return ", ".join([*parts, *_status_counts(condition)])

    def interval(self, m: CensoredMedian | None) -> str:
        """A median with its interval and its number of seeds."""
        if m is None:
            return f"no {self.quantity}"
        ends = ["longer than the training" if e is None else self.format(e) for e in (m.value, m.low, m.high)]
        seeds = f"{m.observed} seed{'s' * (m.observed != 1)}"
        if m.censored:
            seeds += f" and {m.censored} not generalised by the end"
        return f"median {ends[0]} [{ends[1]}, {ends[2]}], {seeds}"

    def phases(self, conditions: Sequence[Condition]) -> str:
        """What the phase diagram shows."""
        medians = [
            (c.median.value, c) for c in conditions if c.median is not None and c.median.value is not None
        ]
        if not medians:
            return (
                "No condition has a median delay: in each, at least half of the seeds had not generalised "
                "when their training ended."
                if self.by_delay
                else "No training is finished yet."
            )
        least, most = min(medians, key=lambda pair: pair[0]), max(medians, key=lambda pair: pair[0])
        span = f"from {self.format(least[0])} ({least[1].label}) to {self.format(most[0])} ({most[1].label})"
        if not self.by_delay:
            return f"The median last {self.score} ranges {span}."
        results = [result for c in conditions for result in c.results if result.phase is not None]
        count = sum(result.phase == "generalised" for result in results)
        return f"{count} of {len(results)} trainings generalised; the median delay ranges {span} steps."

    def spread(self, conditions: Sequence[Condition]) -> str:
        """What the figure of all seeds shows."""
        widths = [
            (m.high - m.low, c)
            for c in conditions
            if (m := c.median) and m.high is not None and m.low is not None
        ]
        later = sum(len(c.bounds) for c in conditions)
        censored = (
            f"{later} seed{'s' * (later != 1)} memorised and had not generalised when training ended. "
            if later
            else ""
        )
        if not widths:
            return f"{censored}No condition's median has an interval with both ends."
        width, widest = max(widths, key=lambda pair: pair[0])
        return (
            f"{censored}Seeds differ most at {widest.label}, where the interval of the median is "
            f"{self.format(width)} wide."
        )

    def curves(self, count: int) -> str:
        """What the learning curves of `count` conditions show."""
        text = f"The {self.score} by optimiser step, one line for each seed"
        return f"{text}, in each of {count} conditions." if count > 1 else f"{text}."

    def curves_reading(self, sets: Sequence[str]) -> str:
        """How to read the learning curves of these sets of examples."""
        if "train" in sets:
            return (
                "Dotted lines are the training examples, solid and dashed lines are held-out examples; the "
                "delay lies between them."
            )
        return "Each point is an average over several steps, on the examples of those steps."


def _status_counts(condition: Condition) -> list[str]:
    return [
        f"{count} {status}"
        for status in ("failed", "missing")
        if (count := sum(result.status == status for result in condition.results))
    ]


def captions_of(sweep: SweepResult) -> Captions:
    """The captions that fit what is known of the sweep."""
    return Captions(sweep.has_histories, sweep.score)
