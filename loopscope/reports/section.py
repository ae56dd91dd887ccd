"""The parts of a page: sections, tiles and tables."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..plots.panels import Panel

Group = Literal["training", "answers", "dynamics", "halting", "inside", "absent"]
"""Sections of one group stand together on the page, under one heading."""

GROUPS: dict[Group, str] = {
    "training": "Training",
    "answers": "Answers and features",
    "dynamics": "Dynamics",
    "halting": "Halting and depth",
    "inside": "Causes inside the loop",
    "absent": "What is not here",
}
"""The groups in the order of the page, with their headings."""


Topic = Literal["training", "model", "dynamics", "halting", "gain", ""]
"""What a section's claim is about: how training went, what the model does, where its loop goes,
when it stops, what more iterations buy."""


NO_RANK = 99
"""The rank of a section whose tiles aren't in the summary."""


@dataclass(frozen=True)
class Tile:
    """A number or word at the top of the page, with its caption. Plain text."""

    value: str
    caption: str


@dataclass(frozen=True)
class Table:
    """Rows under a header. Plain text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    is_folded: bool = False
    """Whether it is opened by the reader; one of more than 40 rows always is."""


@dataclass(frozen=True)
class Summary:
    """What stands at the top of a page. Plain text."""

    sentences: Sequence[str]
    """Five at most: what the model does, where its loop goes, when it stops, what more iterations
    buy, and what is unclear."""
    tiles: Sequence[Tile]
    """Six at most, the most important first."""
    table: Table | None = None
    """Where the loop goes: the share of examples with each fate, with its interval."""
    disagreements: Sequence[str] = ()
    """On what the analyses disagree, and why; a sentence each."""


@dataclass(frozen=True)
class Section:
    """A heading with figures under it, of which the first is in sight and the others are folded.
    Everything except the panels' figures is plain text."""

    name: str
    """Its anchor in the page: letters, digits and dashes."""
    title: str
    place: int
    """Sections of a group are sorted by this number."""
    panels: Sequence[Panel] = ()
    text: str = ""
    """The verdict, or a paragraph, under the heading."""
    summary: str = ""
    """The result's summary; folded, without what stands elsewhere in the section."""
    tiles: Sequence[Tile] = ()
    """For the top of the page."""
    table: Table | None = None
    """After the figures."""
    group: Group = "dynamics"
    topic: Topic = ""
    claim: str = ""
    """Its sentence in the summary, on its topic; of several on one topic, the first is used."""
    rank: int = NO_RANK
    """Of its tiles in the summary: the six with the lowest are there."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Its numbers for the JSON next to the page: what `to_json` takes."""
    evidence: str = ""
    """What the verdict rests on, in a line under it."""
    numbers: Table | None = None
    """The quantities that the verdict is about, with their intervals; folded."""
    conclusions: Table | None = None
    """What examples or samples of them gave, if not all the same; folded."""


def anchor(name: str) -> str:
    """The anchor of a section in the page, from its name: letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())
