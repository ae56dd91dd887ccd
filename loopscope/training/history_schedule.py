"""When a training is looked at, and which of its weights are kept: often where things change,
seldom where nothing does."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .validation import between, counted

Line = Mapping[str, Any]
"""One look: {"step": s, "sets": {name: {"loss": by iteration, "accuracy": by iteration}}, "norm":
of the weights}."""


@dataclass(frozen=True)
class Schedule:
    """Looks and checkpoints of a training's history. Both follow from the looks so far alone, so a
    training that was killed goes on with the same ones.

    A look follows the one before after `growth` times the steps done, within `finest` and
    `coarsest`; after a quarter of that where some set's accuracy has just changed by more than
    `change`.

    A checkpoint is kept where the distance from the last kept one is `apart` or more: the log of
    the ratio of steps, three times the change of accuracy, and half the change of the loss's
    decimal logarithm, summed over the sets. Where there are more than `checkpoints`, the one leaves
    whose neighbours are nearest to each other.
    """

    growth: float = 1.08
    finest: int = 5
    coarsest: int = 200
    change: float = 0.03
    apart: float = 0.3
    checkpoints: int = 30
    examples: int = 1000
    """Looked at from each set, where the task can't list them all."""

    def __post_init__(self) -> None:
        between("Schedule.growth", self.growth, 1, 10)
        counted("Schedule.finest", self.finest, least=1)
        counted("Schedule.coarsest", self.coarsest, least=self.finest)
        between("Schedule.change", self.change, 0, 1)
        between("Schedule.apart", self.apart, 0, 100)
        counted("Schedule.checkpoints", self.checkpoints, least=2)
        counted("Schedule.examples", self.examples, least=1)

    def next(self, lines: Sequence[Line]) -> int:
        """The step of the look after these; 0, before the first step, is the first."""
        if not lines:
            return 0
        step = lines[-1]["step"]
        gap = round((self.growth - 1) * step)
        if len(lines) > 1 and _moved(lines[-2], lines[-1]) > self.change:
            gap //= 4
        return step + min(max(gap, self.finest), self.coarsest)

    def kept(self, lines: Sequence[Line]) -> list[int]:
        """The steps, of these looks, whose weights are kept."""
        kept: list[Line] = []
        for line in lines:
            if not kept or _distance(kept[-1], line) >= self.apart:
                kept.append(line)
            if len(kept) > self.checkpoints:
                spans = [_distance(a, b) for a, b in zip(kept, kept[2:], strict=False)]
                del kept[1 + spans.index(min(spans))]
        if lines and kept[-1] is not lines[-1]:
            kept.append(lines[-1])  # for as long as it is the last
        return [line["step"] for line in kept]


def _last(line: Line, what: str) -> list[float]:
    return [told[what][-1] for told in line["sets"].values()]


def _moved(a: Line, b: Line) -> float:
    """The largest change of a set's accuracy."""
    return max(abs(x - y) for x, y in zip(_last(a, "accuracy"), _last(b, "accuracy"), strict=True))


def _distance(a: Line, b: Line) -> float:
    steps = math.log((b["step"] + 10) / (a["step"] + 10))
    scores = sum(abs(x - y) for x, y in zip(_last(a, "accuracy"), _last(b, "accuracy"), strict=True))
    losses = sum(
        abs(math.log10(max(x, 1e-9) / max(y, 1e-9)))
        for x, y in zip(_last(a, "loss"), _last(b, "loss"), strict=True)
    )
    return steps + 3 * scores + losses / 2
