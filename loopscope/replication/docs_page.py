"""docs/findings.md: the table of all findings, written from their results."""

import math
from collections.abc import Sequence
from pathlib import Path

from ..common import discovery
from ..common.atomic_write import save_text
from ..common.errors import LoopscopeError
from ..common.finding_shelf import FINDINGS
from ..common.text import number, plural
from . import store
from .finding import SEEDS
from .replication import Replication
from .rule import Status

DOCS = "docs/findings.md"


def docs_page(replications: Sequence[Replication]) -> str:
    """The page in Markdown: how many hold, a table, and for each finding its numbers."""
    count = {status: sum(one.status is status for one in replications) for status in Status}
    lines = [
        "# Published findings, run again",
        "",
        "Each is a claim of a paper, with its metric and its criterion as they were fixed before any",
        f"run. It holds if the criterion holds for the mean of {SEEDS} seeds and in at least two of",
        "them. The seeds follow from the hash of the commit that the recipe is in. `loopscope findings",
        "run N` trains and measures one again; `make findings` runs all and writes this page.",
        "",
        f"- {plural(len(replications), 'finding')}: "
        + ", ".join(f"{n} {status.value}" for status, n in count.items() if n)
        + ".",
        "",
        *_table(replications),
    ]
    for one in replications:
        lines += ["", *_section(one)]
    return "\n".join(lines) + "\n"


def shelf_page() -> str:
    """The page about loopscope's own findings, by their numbers."""
    every = [store.load(name) for name in FINDINGS.ours()]
    return docs_page(sorted(every, key=lambda one: one.finding.number))


def write_docs() -> Path:
    """Write that page into a checkout's docs/. Returns its path.

    Raises:
        LoopscopeError: this is no checkout.
    """
    folders = discovery.folders("findings")
    if len(folders) < 2:
        raise LoopscopeError(
            f"{DOCS} is a page of a checkout, but this loopscope is installed. Clone the repository, or read "
            "the table of loopscope findings."
        )
    path = Path(folders[-1]).parent / DOCS
    save_text(path, shelf_page())
    return path


def _table(replications: Sequence[Replication]) -> list[str]:
    lines = [
        "| # | claim | source | status | figures: mean (each seed) | recipes tried | commit, date |",
        "|--:|---|---|---|---|--:|---|",
    ]
    for one in replications:
        cells = [
            str(one.finding.number),
            one.finding.claim + (" (a reserve)" if one.finding.reserve else ""),
            str(one.finding.source),
            one.status.value + ("" if one.is_current else " (the file has changed since)"),
            "<br>".join(one.figures) or "-",
            str(one.recipes_tried),
            "-" if one.attempt is None else f"`{one.attempt.commit[:10]}`, {one.date or 'not run'}",
        ]
        lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    return lines


def _section(one: Replication) -> list[str]:
    finding, attempt = one.finding, one.attempt
    lines = [f"## {finding.number}: {one.name.replace('_', ' ')}", ""]
    rows = [
        ("claim", finding.claim),
        ("source", str(finding.source)),
        ("file", f"`findings/{one.name}.py`"),
        ("metric", finding.metric),
        ("criterion", finding.criterion),
        ("status", one.status.value),
    ]
    rows += [("counts on", "fresh trainings only")] if finding.fresh_only else []
    rows += [] if one.record is None or not one.record.note else [("note", one.record.note)]
    lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(text)} |" for name, text in rows)]
    if attempt is None or not attempt.measured:
        return lines
    header = ["number", "mean", *(f"seed {seed}" for seed in one.numbers)]
    lines += ["", f"| {' | '.join(header)} |", f"|---|{'--:|' * (len(header) - 1)}"]
    for name in one.mean:
        values = [number(one.mean[name]), *(number(by.get(name, math.nan)) for by in one.numbers.values())]
        lines.append(f"| {_cell(name)} | {' | '.join(values)} |")
    passed = " | ".join("yes" if passed else "no" for passed in one.passed.values())
    lines.append(f"| criterion | {'yes' if one.criterion_of_mean else 'no'} | {passed} |")
    if one.record is not None and one.record.earlier:
        lines += ["", f"Earlier recipes: {len(one.record.earlier)}, whose numbers are in its results."]
    return lines


def _cell(text: str) -> str:
    """A text as a table of Markdown has it."""
    return text.replace("|", "\\|")
