"""The findings as a table for the terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from .replication import Replication


def findings_table(replications: Sequence[Replication]) -> Table:
    """A row for each: number, claim, source, status, figures, recipes tried, date and commit."""
    table = Table(
        "#",
        "claim",
        "source",
        "status",
        "mean (each seed)",
        "recipes",
        "run",
        box=SIMPLE_HEAD,
        show_lines=True,
    )
    for one in replications:
        status = one.status.value + ("" if one.is_current else "; its file has changed since")
        run = "" if one.attempt is None else f"{one.date}\n{one.attempt.commit[:10]}".strip()
        row = [
            str(one.finding.number),
            one.finding.claim,
            str(one.finding.source),
            status,
            "\n".join(one.figures),
            str(one.recipes_tried),
            run,
        ]
        table.add_row(*map(Text, row))
    return table
