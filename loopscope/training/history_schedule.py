"""The schedule of a history: at which steps a model in training is measured, and which weights are
kept. Both are denser where the accuracy changes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .validation import check_count, check_range

Line = Mapping[str, Any]
"""One look, which is one measurement of a model in training: {"step": s, "sets": {name: {"loss": by
iteration, "accuracy": by iteration}}, "norm": of the weights}."""


@dataclass(frozen=True)
class Schedule:
    """Looks and checkpoints of a training's history. Both follow from the previous looks only, so
    that a training that was killed resumes with the same ones.

    The next look is at `growth` times the steps done, at least `finest` and at most `coarsest`
    steps later; after a quarter of that if the accuracy of a set has just changed by more than
    `change`.

    A checkpoint is kept if its distance from the last one is at least `apart`: the log of the ratio
    of steps, three times the change of accuracy, and half the change of the loss's decimal
    logarithm, summed over the sets. If there are more than `checkpoints`, the one whose neighbours
    are closest to each other is removed.
    """

    growth: float = 1.08
    finest: int = 5
    coarsest: int = 200
    change: float = 0.03
    apart: float = 0.3
    checkpoints: int = 30
    examples: int = 1000
    """Number of examples measured from each set, if the task can't list them all."""

    def __post_init__(self) -> None:
        check_range("Schedule.growth", self.growth, 1, 10)
        check_count("Schedule.finest", self.finest, least=1)
        check_count("Schedule.coarsest", self.coarsest, least=self.finest)
        check_range("Schedule.change", self.change, 0, 1)
        check_range("Schedule.apart", self.apart, 0, 100)
        check_count("Schedule.checkpoints", self.checkpoints, least=2)
        check_count("Schedule.examples", self.examples, least=1)

    def next_look(self, lines: Sequence[Line]) -> int:
        """The step of the look after these; the first is 0, before the first step."""
        if not lines:
            return 0
        step = lines[-1]["step"]
        gap = round((self.growth - 1) * step)
        if len(lines) > 1 and _accuracy_change(lines[-2], lines[-1]) > self.change:
            gap //= 4
        return step + min(max(gap, self.finest), self.coarsest)

    def checkpoint_steps(self, lines: Sequence[Line]) -> list[int]:
        """The steps of these looks whose weights are kept; always including the last."""
        kept: list[Line] = []
        for line in lines:
            if not kept or _distance(kept[-1], line) >= self.apart:
                kept.append(line)
            if len(kept) > self.checkpoints:
                spans = [_distance(a, b) for a, b in zip(kept, kept[2:], strict=False)]
                del kept[1 + spans.index(min(spans))]
        if lines and kept[-1] is not lines[-1]:
            kept.append(lines[-1])  # as long as it is the last
        return [line["step"] for line in kept]


def _last(line: Line, what: str) -> list[float]:
    return [curves[what][-1] for curves in line["sets"].values()]


def _accuracy_change(a: Line, b: Line) -> float:
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
