"""The parts that a page is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..plots.panels import Panel


@dataclass(frozen=True)
class Tile:
    """One number or word at the head of the page. Plain text."""

    value: str
    caption: str


@dataclass(frozen=True)
class Table:
    """Rows under a header. Plain text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A heading with figures under it. All of it plain text but the panels' figures."""

    name: str
    """For the address within the page; letters, digits and dashes."""
    title: str
    place: int
    """Sections are shown in this order."""
    panels: Sequence[Panel] = ()
    text: str = ""
    """A paragraph before the figures."""
    summary: str = ""
    """The finding in full, after them."""
    tiles: Sequence[Tile] = ()
    table: Table | None = None
    """After the figures, before the summary."""
