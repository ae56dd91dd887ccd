"""The clock: which iteration, and which turn of each inner loop, is running now.

A hook sees a module called, but not which pass of the loop it belongs to. The clock says so. For a
model of ours the driver and the model's own inner loops set it; for somebody else's module it is
inferred from the calls of the loop body (`loopscope.wrapping.wrap_module`).

    for t in clock.loop("iteration", range(8)):
        for l in clock.loop("low", range(3)):
            clock.index        # (t, l)
"""

from collections.abc import Iterable, Iterator


class Clock:
    """The running iteration as a stack of named hands, outermost first. Outside any loop the stack
    is empty."""

    def __init__(self) -> None:
        self._hands: list[tuple[str, int]] = []
        self.hidden = False
        """Whether what runs now is no part of the recorded pass: run again only to come to what
        follows."""
        self.inner: set[str] = set()
        """The loops that were run inside another."""

    @property
    def index(self) -> tuple[int, ...]:
        """The number on every hand, such as (iteration, low). Empty outside the loop."""
        return tuple(number for _, number in self._hands)

    @property
    def axes(self) -> tuple[str, ...]:
        """The name of every hand, in the order of `index`."""
        return tuple(name for name, _ in self._hands)

    @property
    def iteration(self) -> int | None:
        """The running iteration, 0-based; None outside the loop."""
        return self._hands[0][1] if self._hands else None

    def loop(self, name: str, numbers: Iterable[int]) -> Iterator[int]:
        """Iterate over `numbers` while the hand `name` shows each of them, inside the loops already
        running."""
        depth = len(self._hands)
        if depth:
            self.inner.add(name)
        try:
            for number in numbers:
                self._hands[depth:] = [(name, number)]
                yield number
        finally:
            del self._hands[depth:]

    def show(self, *hands: tuple[str, int]) -> None:
        """Set all hands at once. `show()` says that no loop is running."""
        self._hands[:] = hands

    def __repr__(self) -> str:
        return "Clock(" + ", ".join(f"{name}={number}" for name, number in self._hands) + ")"
