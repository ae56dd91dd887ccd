"""Curricula: the length of a training step's examples."""

from dataclasses import dataclass

from .validation import check_count


@dataclass(frozen=True)
class Growing:
    """From `start` to the task's full length in `steps` optimiser steps, each length for equally
    many; then the full length."""

    start: int
    steps: int

    def __post_init__(self) -> None:
        check_count("Growing.start", self.start, least=1)
        check_count("Growing.steps", self.steps)

    def length(self, step: int, full_length: int) -> int:
        """The length in optimiser step `step` (0-based), for a task of length `full_length`."""
        if step >= self.steps or self.start >= full_length:
            return full_length
        return self.start + (full_length - self.start) * step // self.steps


@dataclass(frozen=True)
class Alternating:
    """`low`, `low` + 1, ... up to the task's full length, one length per step, and again from
    `low`.

    With `depth=PerLength(1, 1)` examples of each length get as many iterations as they are long.
    """

    low: int = 1

    def __post_init__(self) -> None:
        check_count("Alternating.low", self.low, least=1)

    def length(self, step: int, full_length: int) -> int:
        """The length in optimiser step `step` (0-based), for a task of length `full_length`."""
        return min(self.low, full_length) + step % (full_length - min(self.low, full_length) + 1)


Curriculum = Growing | Alternating
