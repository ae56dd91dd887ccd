"""Several ways to the same thing, timed in turns."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """One way's times over the rounds, in seconds."""

    processor: tuple[float, ...]
    wall: tuple[float, ...]

    def ratios(self, other: "Times") -> list[float]:
        """Of the processor times, round by round, so that a slow spell hits both."""
        return [one / another for one, another in zip(self.processor, other.processor, strict=True)]

    def wall_ratio(self, other: "Times") -> float:
        """The median of the ratios by the clock on the wall."""
        return statistics.median(a / b for a, b in zip(self.wall, other.wall, strict=True))


def interleaved(
    ways: Mapping[str, Callable[[], object]], rounds: int = 9, at_least: float = 0.05
) -> dict[str, Times]:
    """Each way's times, one call of each per round after one that doesn't count.

    The order turns from round to round, so that none always runs after the same other.

    Arguments:
        at_least: seconds that a round of one way takes; a faster one is called several times.
    """
    calls = {}
    for name, way in ways.items():
        way()
        start = time.process_time()
        way()
        calls[name] = max(1, round(at_least / max(time.process_time() - start, 1e-6)))
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            gc.collect()
            processor, wall = time.process_time(), time.perf_counter()
            for _ in range(calls[name]):
                ways[name]()
            processor, wall = time.process_time() - processor, time.perf_counter() - wall
            taken[name].append((processor / calls[name], wall / calls[name]))
    return {
        name: Times(*(tuple(column) for column in zip(*rows, strict=True))) for name, rows in taken.items()
    }
