"""docs/findings.md: the table of all findings, written from their results."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..common import discovery
from ..common.atomic_write import save_text
from ..common.errors import LoopscopeError
from ..common.finding_shelf import FINDINGS
from ..common.text import listed, plural
from . import store
from .docs_section import cell, linked, section, wrapped
from .finding import SEEDS
from .replication import Replication
from .rule import Status

DOCS = "docs/findings.md"


def docs_page(replications: Sequence[Replication], absent: Mapping[int, int] | None = None) -> str:
    """The page in Markdown: how many hold, a table, and for each finding its numbers.

    Arguments:
        absent: numbers that have a criterion and no file yet; the value is the number in whose
            place one stands, or its own.
    """
    count = {status: sum(one.status is status for one in replications) for status in Status}
    lines = [
        "# Published findings, run again",
        "",
        *wrapped(" ".join(_head(replications))),
        "",
        f"- {plural(len(replications), 'finding')}: "
        + ", ".join(status.counted(n) for status, n in count.items() if n)
        + ".",
        "",
        *_table(replications),
        *(["", *wrapped(_absent(absent))] if absent else []),
    ]
    for one in replications:
        lines += ["", *section(one)]
    return "\n".join(lines) + "\n"


def shelf_page() -> str:
    """The page about loopscope's own findings, by their numbers."""
    every = sorted(map(store.load, FINDINGS.ours()), key=lambda one: one.finding.number)
    criteria = Path(discovery.folders("findings")[-1]) / "criteria.md"
    text = criteria.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (?:In place of (\d+))?", text, re.MULTILINE)
    present = {one.finding.number for one in every}
    return docs_page(every, {int(new): int(old or new) for new, old in rows if int(new) not in present})


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


def _head(replications: Sequence[Replication]) -> list[str]:
    late = [one.finding.number for one in replications if one.finding.fresh_only]
    lines = [
        "Each is a claim of a paper, with its metric and its criterion as they were fixed before its first",
        "run ([criteria.md](../findings/criteria.md) has them all).",
    ]
    if late:
        what, they = ("criterion", "it counts") if len(late) == 1 else ("criteria", "they count")
        lines += [
            f"The {what} of {_several(late)} came after a look at trained entries, so that {they} on fresh",
            "trainings only; the table marks this.",
        ]
    return [
        *lines,
        f"A finding holds if its criterion holds for the mean of {SEEDS} seeds and in at least two of them.",
        "The seeds follow from the hash of the commit that the recipe is in. `loopscope findings run N`",
        "trains and measures one again; `make findings` runs all and writes this page. Under each finding",
        "stands how it was measured, which defines the words of its criterion.",
        "In brackets are 95 % intervals, where they were measured.",
    ]


def _absent(numbers: Mapping[int, int]) -> str:
    places = {new: old for new, old in numbers.items() if new != old}
    instead = f" ({_several(places)} in place of {_several(places.values())})" if places else ""
    return (
        f"Of the thirty, {_several(numbers)} {'are' if len(numbers) > 1 else 'is'} not on the shelf yet"
        f"{instead}. Other numbers that are missing are of reserves, which weren't needed so far."
    )


def _several(numbers: Iterable[int]) -> str:
    return listed([str(one) for one in sorted(numbers)])


def _table(replications: Sequence[Replication]) -> list[str]:
    lines = [
        "| # | claim | source | status | figures: mean (each seed) | recipes tried | commit, date |",
        "|--:|---|---|---|---|--:|---|",
    ]
    for one in replications:
        finding = one.finding
        marks = [
            *(["a reserve"] if finding.reserve else []),
            *(["criterion after a look; fresh trainings only"] if finding.fresh_only else []),
        ]
        cells = [
            str(finding.number),
            finding.claim + (f" ({'; '.join(marks)})" if marks else ""),
            linked(str(finding.source)),
            one.status.value + ("" if one.is_current else " (the file has changed since)"),
            "<br>".join(one.figures) or "-",
            str(one.recipes_tried) if one.was_run else "-",
            "-" if one.attempt is None else f"`{one.attempt.commit[:10]}`, {one.date or 'not run'}",
        ]
        lines.append(f"| {' | '.join(map(cell, cells))} |")
    return lines
