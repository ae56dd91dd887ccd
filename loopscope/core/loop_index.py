"""The clock of a model: which iteration, and which turn of each inner loop, is running now.

A hook sees that a module is called, but not in which pass of the loop. The clock tells it. In a
model with the four functions, the driver and the model's own inner loops set the clock; for a
module that is wrapped by its loop body, it is inferred from the calls of the body
(`loopscope.wrapping.wrap_module`).

    for t in clock.loop("iteration", range(8)):
        for l in clock.loop("low", range(3)):
            clock.index        # (t, l)

Each thread has its own time: a forward pass in another thread doesn't change it.
"""

import threading
from collections.abc import Iterable, Iterator


class Clock(threading.local):
    """A stack of counters (loop, index), the outermost loop first. It is empty outside any loop."""

    def __init__(self) -> None:
        self._counters: list[tuple[str, int]] = []
        self.hidden = False
        """True while a part is run again only to reach what follows it: nothing is recorded
        then."""
        self.inner_loops: set[str] = set()
        """Names of the loops that have run inside another one."""

    def __reduce__(self) -> tuple[type["Clock"], tuple[()]]:
        """A copied or pickled model has a clock of its own, outside any loop."""
        return Clock, ()

    @property
    def index(self) -> tuple[int, ...]:
        """The index of each running loop, such as (iteration, low). Empty outside the loop."""
        return tuple([index for _, index in self._counters])

    @property
    def axes(self) -> tuple[str, ...]:
        """The name of each running loop, in the order of `index`."""
        return tuple([loop for loop, _ in self._counters])

    @property
    def iteration(self) -> int | None:
        """The running iteration, 0-based; None outside the loop."""
        return self._counters[0][1] if self._counters else None

    def loop(self, name: str, indices: Iterable[int]) -> Iterator[int]:
        """Iterate over `indices` inside the loops already running, with a counter `name` at each of
        them. The counter is removed at the end, also after an exception."""
        depth = len(self._counters)
        if depth:
            self.inner_loops.add(name)
        try:
            for index in indices:
                self._counters[depth:] = [(name, index)]
                yield index
        finally:
            del self._counters[depth:]

    def set(self, *counters: tuple[str, int]) -> None:
        """Replace all counters. `set()` says that no loop is running."""
        self._counters[:] = counters

    def __repr__(self) -> str:
        return "Clock(" + ", ".join(f"{loop}={index}" for loop, index in self._counters) + ")"
