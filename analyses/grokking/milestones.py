"""Milestones: the events of a training, in order, each with its step and interval."""

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from loopscope.common.text import percent
from loopscope.maths.changepoints import Dated, crossing
from loopscope.training.history import LEVEL, History

from .progress_measures import ProgressMeasures

MIN_RISE = 0.05
"""The smallest rise of a fraction, or of the norm as a fraction of its maximum, whose halfway point
is a milestone."""
_MIN_EVALUATIONS = 8


@dataclass(frozen=True)
class Milestone:
    """An event of a training."""

    event: str
    """What happened, in words."""
    date: Dated
    looks: tuple[int, int]
    """The steps of the last measurement before the event and of the first at or after it: nothing
    is known of what lies between. The same one twice if the event had happened at the first."""

    @property
    def text(self) -> str:
        """Such as "train 95 % correct (164: looks at 160 and 172)"."""
        before, after = self.looks
        where = f"looks at {before:,} and {after:,}" if before < after else "at the first look"
        return f"{self.event} ({self.date.step:,.0f}: {where})"


def milestones(
    history: History,
    progress: ProgressMeasures,
    learned: Mapping[str, Dated | None],
    level: float = LEVEL,
) -> list[Milestone]:
    """All milestones of a training that have a date, in order.

    Halfway is where a measure has completed half of the change from its minimum (the norm: its
    maximum) to the maximum after it. For addition modulo p, losses are compared with ln p, the loss
    of guessing.

    Arguments:
        progress: the history's progress measures.
        learned: when each set's accuracy reached `level`.
    """
    steps = torch.tensor(history.steps, dtype=torch.float64)
    checkpoints = torch.tensor(progress.steps, dtype=torch.float64)
    dates = {f"{name} {percent(level)} correct": date for name, date in learned.items()}
    dates["weight norm halfway down"] = _rise(steps, -history.norm / history.norm.max())
    inside: dict[str, Dated | None] = {}
    if progress.fourier is not None:
        fourier, chance = progress.fourier, progress.fourier.chance
        restricted, excluded, test = fourier.restricted[:, -1], fourier.excluded[:, -1], history.loss("test")
        inside["restricted loss below half of guessing"] = _rise(checkpoints, -restricted, -chance / 2)
        inside["excluded loss above guessing"] = _rise(checkpoints, excluded, chance)
        dates["test loss below half of guessing"] = _rise(steps, -test[:, -1], -chance / 2)
        inside["concentration of the embedding halfway up"] = _rise(checkpoints, fourier.embedding)
        inside["Fourier components of a + b in the state halfway up"] = _rise(
            checkpoints, fourier.sum_fraction[:, -1]
        )
    events = [
        Milestone(event, date, _around(measured, date.step))
        for measured, some in ((history.steps, dates), (progress.steps, inside))
        for event, date in some.items()
        if date is not None
    ]
    return sorted(events, key=lambda milestone: milestone.date.step)


def _around(measured: Sequence[int], step: float) -> tuple[int, int]:
    """The last of the measured steps before a step, and the first at or after it."""
    after = min(bisect.bisect_left(measured, step), len(measured) - 1)
    return measured[max(after - 1, 0)], measured[after]


def _rise(steps: Tensor, values: Tensor, level: float | None = None) -> Dated | None:
    """When a measure rises for good, after its minimum: to a level, or to the middle between the
    minimum and its maximum. Measurements that aren't finite are left out."""
    known = values.isfinite()
    if int(known.sum()) < _MIN_EVALUATIONS:
        return None
    steps, values = steps[known], values[known]
    first = int(values.argmin())
    steps, values = steps[first:], values[first:].double()
    rise = float(values.max() - values[0])
    if len(values) < _MIN_EVALUATIONS:
        return None
    if level is None:
        return crossing(steps, values, float(values[0]) + rise / 2) if rise >= MIN_RISE else None
    return crossing(steps, values, level) if float(values[0]) < level else None
