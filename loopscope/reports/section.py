"""The parts of a page: sections, tiles and tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..plots.panels import Panel


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


@dataclass(frozen=True)
class Section:
    """A heading with figures under it. Everything except the panels' figures is plain text."""

    name: str
    """Its anchor in the page: letters, digits and dashes."""
    title: str
    place: int
    """Sections are sorted by this number."""
    panels: Sequence[Panel] = ()
    text: str = ""
    """A paragraph before the figures."""
    summary: str = ""
    """The result's summary, after the figures."""
    tiles: Sequence[Tile] = ()
    table: Table | None = None
    """After the figures, before the summary."""
