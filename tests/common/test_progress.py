"""Progress bars appear after two seconds, on a terminal or in a notebook, and never elsewhere."""

import contextlib
import io
from collections.abc import Iterator

import pytest

from loopscope.common import progress as bars
from loopscope.common.progress import progress, tracked


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def on_terminal() -> Iterator[_Terminal]:
    """A terminal in place of stderr. Not a fixture: pytest sets stderr before each test."""
    stream = _Terminal()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(stream):
        for name, value in {"TERM": "xterm", "COLUMNS": "90", "LINES": "20"}.items():
            patch.setenv(name, value)
        yield stream


class _Timer:
    """In place of a timer: due when it is told so."""

    made: list["_Timer"] = []

    def __init__(self, delay: float, call) -> None:
        assert delay == bars.DELAY == 2.0
        self.call, self.cancelled, self.daemon = call, False, False
        self.made.append(self)

    def start(self) -> None:
        assert self.daemon

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture(autouse=True)
def timers(monkeypatch: pytest.MonkeyPatch) -> list[_Timer]:
    monkeypatch.setattr(bars.threading, "Timer", _Timer)
    _Timer.made = []
    return _Timer.made


def test_without_a_terminal_nothing_is_written_and_no_timer_runs(capsys: pytest.CaptureFixture[str], timers):
    with progress("measuring", 2) as step:
        step("geometry")
        assert list(tracked(range(3), "within", 3)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "") and timers == []


def test_on_a_terminal_a_bar_comes_when_it_is_due_and_leaves_nothing(timers):
    with on_terminal() as terminal:
        with progress("[bold]", 4) as step:
            step(lambda: "[red]geometry")
            assert terminal.getvalue() == ""  # two seconds haven't passed
            timers[0].call()
            step()
            bars._display.live.refresh()
            text = terminal.getvalue()
            assert "[red]geometry" in text and "2/4" in text
        assert all(timer.cancelled for timer in timers)
        assert bars._display.live is None and bars._display.depth == 0


def test_what_is_short_shows_nothing(timers):
    with on_terminal() as terminal:
        assert list(tracked([1, 2], "short", 2)) == [1, 2]
        timers[0].call()  # a timer that was due while the bar was leaving
        assert terminal.getvalue() == ""


def test_a_bar_within_another_is_a_line_below_it_and_a_silent_one_silences_those_within(timers):
    with on_terminal() as terminal, progress("page", 2):
        for timer in timers:
            timer.call()
        for item in tracked("ab", "cells", 2):
            timers[-1].call()
            bars._display.live.refresh()
            assert "cells" in terminal.getvalue() and item in "ab"
        count = len(timers)
        with progress("silent", 2, visible=False) as step:
            step()
            assert list(tracked("ab", "hidden", 2)) == ["a", "b"]
        assert len(timers) == count and "hidden" not in terminal.getvalue()
        assert list(tracked("a", "later", 1)) == ["a"] and len(timers) == count + 1


def test_an_error_passes_through_and_the_bar_is_gone(timers):
    with on_terminal(), contextlib.suppress(ZeroDivisionError), progress("measuring", 1):
        timers[0].call()
        raise ZeroDivisionError
    assert bars._display.live is None and bars._display.depth == 0
