"""What a sweep's page says: sentences made from the numbers, for delays or, without histories, for
last scores."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .censored_median import Middle
from .conditions import Cell, is_dated
from .sweep import Sweep

_SIGNS = "● generalised, ◐ memorised but didn't generalise, ○ neither, × failed, – not trained yet, · without a history"


@dataclass(frozen=True)
class Words:
    """The page's sentences."""

    dated: bool
    """Whether histories tell when each training memorised and generalised."""
    score: str
    """The task's, such as "accuracy"."""

    @property
    def quantity(self) -> str:
        return "delay (optimiser steps)" if self.dated else f"last {self.score}"

    @property
    def reading(self) -> str:
        if self.dated:
            return (
                "Colour and number: the median over seeds of the steps from memorised (train) to "
                "generalised (test); a cell without colour has no median, because half of its seeds or more "
                "waited to the end. A sign for each seed: "
                f"{_SIGNS}."
            )
        return (
            f"Colour and number: the median over seeds of the last {self.score} on fresh examples. No "
            "histories were kept, so when each seed learned isn't known."
        )

    @property
    def spread_reading(self) -> str:
        told = (
            "The bar holds 95 % of the medians of 2,000 drawings of seeds with replacement; with fewer than "
            "six or so seeds it is rough, and hardly more than their range."
        )
        if not self.dated:
            return f"A row is a cell, a dot a seed. {told}"
        return (
            "A row is a cell, a dot a seed. A triangle is a seed that memorised and never generalised: its "
            "delay is longer than that, and it counts as such (Kaplan-Meier). A seed that didn't memorise "
            "has no delay and isn't here. A bar that "
            f"ends in a triangle has no upper end. {told}"
        )

    def value(self, value: float) -> str:
        return f"{value:,.0f}" if self.dated else f"{value:.3f}"

    def short(self, cell: Cell) -> str:
        """The cell's number."""
        m = cell.middle
        if m is None:
            return "none"
        if m.median is not None:
            return self.value(m.median)
        # every delay is its bound or more, and so their median is the bounds' or more
        return f"> {self.value(statistics.median([*cell.values, *cell.bounds]))}"

    def below(self, cell: Cell) -> str:
        """What stands under it: a sign for each seed, or how many there are."""
        if self.dated:
            return cell.signs
        rest = [f"{n} {s}" for s in ("failed", "missing") if (n := sum(o.status == s for o in cell.outcomes))]
        return ", ".join([f"{len(cell.values)} seed{'s' * (len(cell.values) != 1)}", *rest])

    def long(self, cell: Cell) -> str:
        """All that is known of a cell."""
        parts = [f"{cell.label}: {self.interval(cell.middle)}"]
        if self.dated:
            for phase in ("generalised", "memorised", "neither"):
                if count := sum(o.phase == phase for o in cell.outcomes):
                    parts.append(f"{count} {phase}")
        for status in ("failed", "missing"):
            if count := sum(o.status == status for o in cell.outcomes):
                parts.append(f"{count} {status}")
        return ", ".join(parts)

    def interval(self, m: Middle | None) -> str:
        if m is None:
            return f"no {self.quantity}"
        ends = [("beyond what was seen" if e is None else self.value(e)) for e in (m.median, m.low, m.high)]
        seeds = (
            f"{m.seen} seed"
            + "s" * (m.seen != 1)
            + (f" and {m.censored} later than seen" if m.censored else "")
        )
        return f"median {ends[0]} [{ends[1]}, {ends[2]}], {seeds}"

    def seen(self, cells: Sequence[Cell]) -> str:
        """What the phase diagram shows."""
        known = [(c.middle.median, c) for c in cells if c.middle is not None and c.middle.median is not None]
        if not known:
            return (
                "No cell has a median delay: everywhere half of the seeds or more hadn't generalised by "
                "their end."
                if self.dated
                else "No training has ended yet."
            )
        least, most = min(known, key=lambda pair: pair[0]), max(known, key=lambda pair: pair[0])
        span = f"from {self.value(least[0])} ({least[1].label}) to {self.value(most[0])} ({most[1].label})"
        if not self.dated:
            return f"The median last {self.score} goes {span}."
        every = [o for c in cells for o in c.outcomes if o.phase is not None]
        done = sum(o.phase == "generalised" for o in every)
        return f"{done} of {len(every)} trainings generalised; the median delay goes {span} steps."

    def spread(self, cells: Sequence[Cell]) -> str:
        """What the seeds show."""
        wide = [
            (m.high - m.low, c) for c in cells if (m := c.middle) and m.high is not None and m.low is not None
        ]
        later = sum(len(c.bounds) for c in cells)
        told = f"{later} seeds memorised and hadn't generalised by their end. " if later else ""
        if not wide:
            return f"{told}No cell's median has an interval with both ends."
        most = max(wide, key=lambda pair: pair[0])
        return f"{told}Seeds differ most at {most[1].label}, where the interval of the median is {self.value(most[0])} wide."

    def curves(self, count: int) -> str:
        told = f"The {self.score} by optimiser step, a line for each seed"
        return f"{told}, in each of {count} cells." if count > 1 else f"{told}."

    def curves_reading(self, kinds: Sequence[str]) -> str:
        if "train" in kinds:
            return "Dotted is what was trained on, solid and dashed what was held out; between them lies the delay."
        return "Each point is the mean over a stretch of steps, on the examples that those steps trained on."


def words_of(sweep: Sweep) -> Words:
    """The words that fit what the sweep knows."""
    return Words(is_dated(sweep), sweep.score)
