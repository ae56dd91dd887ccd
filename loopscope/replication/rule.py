"""The rule by which a finding holds: its criterion holds for the mean of three seeds, and in at
least two of the three."""

import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from .finding import SEEDS

Numbers = Mapping[str, float]
Holds = Callable[[Numbers], bool]
"""The criterion, as a function of the numbers of one seed or of the mean."""


class Status(Enum):
    """What is known of a finding; the value is its sentence."""

    holds = "holds"
    fails = "does not hold"
    partly_run = "partly run"
    not_run = "not run"

    def __str__(self) -> str:
        return str(self.value)

    def counted(self, count: int) -> str:
        """A count of findings with this status, such as "1 holds" and "6 hold"."""
        several = {"holds": "hold", "does not hold": "do not hold"}
        return f"{count} {self.value if count == 1 else several.get(self.value, self.value)}"


def passes(holds: Holds, numbers: Numbers) -> bool:
    """Whether a criterion holds of numbers. Where one is missing or isn't finite, it doesn't."""
    if not numbers or not all(map(math.isfinite, numbers.values())):
        return False
    try:
        return bool(holds(numbers))
    except KeyError:
        return False


def mean(by_seed: Sequence[Numbers]) -> dict[str, float]:
    """The mean of each number over the seeds; NaN where a seed doesn't have it."""
    names = dict.fromkeys(name for numbers in by_seed for name in numbers)
    return {name: sum(one.get(name, math.nan) for one in by_seed) / len(by_seed) for name in names}


def status(holds: Holds, by_seed: Sequence[Numbers]) -> Status:
    """The status by the numbers of each seed: it is open below three seeds. Of more, the criterion
    must hold in at least two thirds."""
    if len(by_seed) < SEEDS:
        return Status.partly_run if by_seed else Status.not_run
    each = [passes(holds, numbers) for numbers in by_seed]
    most = 3 * sum(each) >= 2 * len(each)
    return Status.holds if most and passes(holds, mean(by_seed)) else Status.fails
