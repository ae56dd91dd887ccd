"""The part of an entry's card between two marker lines, which a command writes again."""

from pathlib import Path

from ..common.atomic_write import save_text
from ..common.errors import LoopscopeError


def markers(name: str) -> tuple[str, str]:
    """The lines before and after the section of this name."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def check_markers(card: Path, name: str) -> None:
    """Check that a card has one place for the section.

    Raises:
        LoopscopeError: it has none, or several.
    """
    text = card.read_text(encoding="utf-8")
    begin, end = markers(name)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise LoopscopeError(
            f"{card} must have one line {begin} and after it one line {end}, between which the numbers go, "
            "but doesn't. Add them where the numbers belong."
        )


def write_section(card: Path, name: str, content: str) -> None:
    """Put content between the markers of a card; the rest is unchanged.

    Raises:
        LoopscopeError: the card has no such place.
    """
    check_markers(card, name)
    text = card.read_text(encoding="utf-8")
    begin, end = markers(name)
    before, after = text.split(begin)[0], text.split(end)[1]
    save_text(card, f"{before}{begin}\n{content}\n{end}{after}")
