"""The progress of long work: one line on a terminal or in a notebook, nothing elsewhere."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_line(total: int | None, visible: bool | None) -> Iterator[Callable[[str], None]]:
    """Yield a function that is called at the beginning of every step with what it does.

    Arguments:
        total: number of steps; None: not known.
        visible: None: on a terminal (stderr) and in a notebook.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if visible is None:  # rich shows its line in a notebook by ipywidgets
        in_notebook = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
        visible = sys.stderr.isatty() or in_notebook
    if not visible:
        yield lambda text: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total, completed=-1)

        def step(text: str) -> None:
            bar.update(task, description=escape(text), advance=1)

        yield step
