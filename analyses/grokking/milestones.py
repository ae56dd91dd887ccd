"""Milestones: what happened in a training, in order, each dated."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from loopscope.common.text import percent
from loopscope.maths.changepoints import Dated, crossing
from loopscope.training.history import LEVEL, History

from .progress_measures import Progress

LEAST = 0.05
"""The smallest rise of a fraction, or of the norm as a fraction of its highest, whose middle is an
event."""


@dataclass(frozen=True)
class Event:
    """Something that happened in training."""

    what: str
    when: Dated


def milestones(
    history: History, grown: Progress, learned: Mapping[str, Dated | None], level: float = LEVEL
) -> list[Event]:
    """All that can be dated of a training, in order.

    Half-way is where a measure has made half of the way from its lowest value (the norm: its
    highest) to the highest after it. For addition modulo p, losses are held against ln p, that of
    guessing.

    Arguments:
        grown: the history's progress measures.
        learned: when each set's accuracy reached `level`.
    """
    at = torch.tensor(history.steps, dtype=torch.float64)
    kept = torch.tensor(grown.steps, dtype=torch.float64)
    result = {f"{name} {percent(level)} right": when for name, when in learned.items()}
    result["weight norm half-way down"] = _after(at, -history.norm / history.norm.max())
    if grown.waves is not None:
        waves, chance = grown.waves, grown.waves.chance
        result["restricted loss below half of guessing"] = _after(kept, -waves.restricted[:, -1], -chance / 2)
        result["excluded loss above guessing"] = _after(kept, waves.excluded[:, -1], chance)
        result["test loss below half of guessing"] = _after(at, -history.loss("test")[:, -1], -chance / 2)
        result["concentration of the embedding half-way up"] = _after(kept, waves.embedding)
        result["waves of a + b half-way up in the state"] = _after(kept, waves.sums[:, -1])
    events = [Event(what, when) for what, when in result.items() if when is not None]
    return sorted(events, key=lambda event: event.when.step)


def _after(steps: Tensor, values: Tensor, level: float | None = None) -> Dated | None:
    """When a measure, after its lowest value, rises to a level to stay; or to the middle between
    that value and its highest."""
    first = int(values.argmin())
    steps, values = steps[first:], values[first:].double()
    rise = float(values.max() - values[0])
    if (
        len(values) < 8
        or (level is None and rise < LEAST)
        or (level is not None and float(values[0]) >= level)
    ):
        return None
    return crossing(steps, values, float(values[0]) + rise / 2 if level is None else level)
