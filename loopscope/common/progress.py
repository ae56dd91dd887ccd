"""Progress bars, for whatever takes longer than two seconds: on a terminal (stderr) or in a
notebook; nothing is shown elsewhere, and nothing of it stays.

    with progress("patching", total=len(cells)) as step:
        for cell in cells:
            ...
            step()

    for k, state in tracked(unroll(...), "recording", total=n): ...

A bar within another one is a line below it. One that is silent silences those within it.
"""

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
DELAY = 2.0
"""Seconds after which a bar appears."""


class _Display(threading.local):
    """The bars of one thread."""

    def __init__(self) -> None:
        self.depth, self.visible = 0, False
        self.live: Any = None
        """rich's display, from when its first bar appears."""


_display = _Display()


@contextmanager
def progress(
    what: str, total: int | None = None, visible: bool | None = None, *, begun: int = 0
) -> Iterator[Callable[..., None]]:
    """Yield a function that is called after each step, with what is being done now if that changes:
    a text, or a function that gives one.

    Arguments:
        what: is being done.
        total: number of steps; None: not known.
        visible: None: on a terminal and in a notebook. Within another bar: as that one.
        begun: steps that were done before.
    """
    display = _display  # of this thread, also where a timer shows the bar
    outermost = display.depth == 0
    if outermost:
        display.visible = _is_visible() if visible is None else visible
    if not display.visible or visible is False:
        before, display.visible, display.depth = display.visible, False, display.depth + 1
        try:
            yield lambda text=None: None
        finally:
            display.visible, display.depth = before, display.depth - 1
        return
    row = _Row(what, total, begun, display.live or _live())
    display.live, display.depth = row.live, display.depth + 1
    timer = threading.Timer(DELAY, row.appear)
    timer.daemon = True
    timer.start()
    try:
        yield row.step
    finally:
        timer.cancel()
        row.leave()
        display.depth -= 1
        if outermost:
            row.live.stop()
            display.live = None


def tracked(
    steps: Iterable[T], what: str, total: int | None = None, visible: bool | None = None
) -> Iterator[T]:
    """The same items, with a bar that advances after each of them."""
    with progress(what, total, visible) as step:
        for item in steps:
            yield item
            step()


class _Row:
    """One bar, which appears DELAY seconds after it was made."""

    def __init__(self, what: str, total: int | None, begun: int, live: Any) -> None:
        self.live, self._what, self._total, self._done = live, what, total, begun
        self._task: Any = None
        self._left, self._lock = False, threading.Lock()

    def step(self, text: str | Callable[[], str] | None = None) -> None:
        self._done += 1
        if text is not None:
            self._what = text if isinstance(text, str) or self._task is None else text()
        if self._task is not None:
            self.live.update(self._task, description=self._words(), completed=self._done)

    def appear(self) -> None:
        with self._lock:
            if not self._left:
                self.live.start()
                self._task = self.live.add_task(self._words(), total=self._total, completed=self._done)

    def leave(self) -> None:
        with self._lock:
            self._left = True
            if self._task is not None:
                self.live.remove_task(self._task)

    def _words(self) -> str:
        from rich.markup import escape

        return escape(self._what if isinstance(self._what, str) else self._what())


def _live() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _is_visible() -> bool:
    """Whether this is the main thread of a program on a terminal, or of a notebook that has
    widgets, by which rich shows its bars there."""
    if threading.current_thread() is not threading.main_thread():
        return False
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    in_notebook = "ipykernel" in sys.modules and "IPython" in sys.modules
    return in_notebook and importlib.util.find_spec("ipywidgets") is not None
