"""The zoo's trained entries as a table for the terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import models

_NUMBERS = {"parameters", "iterations", "accuracy"}


def zoo_table() -> Table:
    """A row for each entry: architecture, task, parameters, iterations, accuracy, and the package
    that it is from if any is from one."""
    packages = models.packages()
    columns = ["entry", "architecture", "task", "parameters", "iterations", "accuracy"]
    table = Table(*columns, *(["package"] if packages else []), box=SIMPLE_HEAD)
    for column in table.columns:
        column.no_wrap, column.justify = True, "right" if column.header in _NUMBERS else "left"
    for entry in models.entries():
        header = models.header(entry)
        measured = header.get("measured", {})
        accuracy = measured.get("accuracy")
        row = [
            entry,
            header["architecture"],
            (header.get("task") or {}).get("name", ""),
            f"{models.parameters(entry):,}",
            str(measured.get("iterations", header["config"].get("iterations", ""))),
            "" if accuracy is None else f"{accuracy:.2%}",
        ]
        table.add_row(*map(Text, [*row, packages.get(entry, "")][: len(table.columns)]))
    return table


def print_zoo_table() -> None:
    """Print the table at its full width, since an entry's name that is cut short can't be typed."""
    table, console = zoo_table(), Console()
    needed = console.measure(table, options=console.options.update(max_width=1000)).maximum
    console.width = max(console.width, needed)
    console.print(table)
