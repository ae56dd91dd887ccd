"""CheckResult: the rows of a self-check, with what they were made on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from io import StringIO
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..common.notebook import paragraph, table
from ..common.to_json import to_json

COLUMNS = ("check", "outcome", "difference", "reason")
_STYLES = {"pass": "green", "fail": "bold red", "refused": "yellow", "not applicable": "dim"}
_WIDTH = 110
"""Columns of the printed table."""


class Outcome(Enum):
    """What came of a check."""

    passed = "pass"
    failed = "fail"
    refused = "refused"
    """loopscope refuses what the check needs, and says why."""
    not_applicable = "not applicable"
    """The model has nothing of the kind, or its own behaviour leaves nothing to compare with."""


@dataclass(frozen=True)
class Row:
    """One check."""

    name: str
    outcome: Outcome
    difference: float | None
    """The largest absolute difference between two numbers that must be equal, infinity where their
    shapes or types differ; None where none were compared."""
    reason: str
    """What was compared, or why it failed, was refused or doesn't apply."""

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The row as text, in the order of COLUMNS."""
        number = "" if self.difference is None else f"{self.difference:.3g}"
        return self.name, self.outcome.value, number, self.reason


@dataclass(frozen=True)
class CheckResult:
    """What `loopscope.check` returns. Printed it is the beginning of a bug report."""

    about: Mapping[str, str]
    """Versions, class, device, precision, seed and inputs, as text by name."""
    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()
    """What loopscope warned of meanwhile, each sentence once."""

    @property
    def passed(self) -> bool:
        """Whether a recording's output could be compared with the model's own, and no check
        failed."""
        compared = bool(self.rows) and self.rows[0].outcome is Outcome.passed
        return compared and all(row.outcome is not Outcome.failed for row in self.rows)

    def row(self, name: str) -> Row:
        """The row of a check by its name."""
        return next(row for row in self.rows if row.name == name)

    def summary(self) -> str:
        """How many checks came out how, as a sentence."""
        counts = {one: sum(row.outcome is one for row in self.rows) for one in Outcome}
        words = ("passed", "failed", "were refused", "don't apply")
        parts = [f"{n} {word}" for n, word in zip(counts.values(), words, strict=True) if n]
        return f"Of {len(self.rows)} checks {', '.join(parts)}."

    def rich_table(self) -> Table:
        """The rows for a terminal."""
        result = Table(*COLUMNS, box=SIMPLE_HEAD)
        for column in result.columns[:3]:
            column.no_wrap = True
        result.columns[3].overflow = "fold"
        for row in self.rows:
            name, outcome, number, reason = row.cells
            result.add_row(Text(name), Text(outcome, style=_STYLES[outcome]), Text(number), Text(reason))
        return result

    def __rich__(self) -> Any:
        from rich.console import Group

        head = [Text(f"{name}: {value}") for name, value in self.about.items()]
        notes = [Text(f"warned: {text}") for text in self.warnings]
        return Group(*head, self.rich_table(), *notes, Text(self.summary()))

    def __str__(self) -> str:
        console = Console(file=StringIO(), width=_WIDTH, color_system=None)
        with console.capture() as capture:
            console.print(self)
        return "\n".join(line.rstrip() for line in capture.get().splitlines())

    def _repr_html_(self) -> str:
        head = table(("about", ""), self.about.items())
        notes = "".join(paragraph(text, strong="warned:") for text in self.warnings)
        return head + table(COLUMNS, [row.cells for row in self.rows]) + notes + paragraph(self.summary())

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and strings; an infinite difference is None, as JSON
        has none, and its reason says that shapes or types differ."""
        rows = [{**to_json(row), "outcome": row.outcome.value} for row in self.rows]
        return {
            "about": dict(self.about),
            "passed": self.passed,
            "rows": rows,
            "warnings": list(self.warnings),
            "summary": self.summary(),
        }

    def to_json(self, **options: Any) -> str:
        """`to_dict` as JSON text. `options` are those of `json.dumps`."""
        return json.dumps(self.to_dict(), allow_nan=False, **options)
