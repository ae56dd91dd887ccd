"""How long a training step's examples are."""

from dataclasses import dataclass

from .validation import counted


@dataclass(frozen=True)
class Growing:
    """From `start` to the task's own length, by equal parts of `steps` optimiser steps; from then
    on the task's own."""

    start: int
    steps: int

    def __post_init__(self) -> None:
        counted("Growing.start", self.start, least=1)
        counted("Growing.steps", self.steps)

    def length(self, step: int, own: int) -> int:
        """The length in optimiser step `step` (0-based) of a task whose own length is `own`."""
        if step >= self.steps or self.start >= own:
            return own
        return self.start + (own - self.start) * step // self.steps


@dataclass(frozen=True)
class Alternating:
    """`low`, `low` + 1, ... up to the task's own length, one after the other, step by step, and
    again from `low`.

    With `depth=PerLength(1, 1)` examples of each length get as many iterations as they are long.
    """

    low: int = 1

    def __post_init__(self) -> None:
        counted("Alternating.low", self.low, least=1)

    def length(self, step: int, own: int) -> int:
        """The length in optimiser step `step` (0-based) of a task whose own length is `own`."""
        return min(self.low, own) + step % (own - min(self.low, own) + 1)


Curriculum = Growing | Alternating
