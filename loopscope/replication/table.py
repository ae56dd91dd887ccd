"""The findings as a table for the terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from .replication import Replication


def findings_table(replications: Sequence[Replication]) -> Table:
    """A line for each: number, claim as far as there is room, status, recipes tried."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("claim")
    table.add_column("status", no_wrap=True)
    table.add_column("recipes", justify="right", no_wrap=True)
    for one in replications:
        status = one.status.value + ("" if one.is_current else " (file changed)")
        recipes = str(one.recipes_tried) if one.was_run else "-"
        claim = Text(one.finding.claim, no_wrap=True, overflow="ellipsis")
        table.add_row(str(one.finding.number), claim, Text(status), recipes)
    return table
