"""What stands on a page, before it becomes HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ..common.analysis_result import AnalysisResult
from ..common.text import plural
from ..common.to_json import rounded, to_json
from ..recorder.provenance import versions
from .figure_json import DIGITS
from .section import Section, Table

IN_SIGHT = 1
"""Parts left out that are said at once; more are folded."""


@dataclass(frozen=True)
class Content:
    """Everything on a page. Plain text, except the card."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    results: Mapping[str, AnalysisResult]
    """By the name of the analysis."""
    details: Sequence[tuple[str, str]]
    command: str
    data: Mapping[str, Any]
    """The page's numbers, as JSON values."""
    card: tuple[Markup, Markup] | None = None
    beyond: str = ""
    """As in `Fates`."""


def page_data(
    name: str,
    kind: str,
    sections: Sequence[Section],
    results: Mapping[str, AnalysisResult],
    left_out: Sequence[tuple[str, str]],
    **more: Any,
) -> dict[str, Any]:
    """The numbers of a page about one subject, rounded to DIGITS.

    Arguments:
        left_out: parts of the page that couldn't be made, and why.
        more: such as the origin of its run.
    """
    data = {
        "subject": {"name": name, "kind": kind},
        "versions": versions(),
        **to_json(more),
        "tiles": [{"value": t.value, "caption": t.caption} for section in sections for t in section.tiles],
        "results": {name: result.to_dict() for name, result in results.items()},
        "sections": {section.name: to_json(section.data) for section in sections if section.data},
        "left_out": [{"part": part, "why": why} for part, why in left_out],
    }
    return rounded(data, DIGITS)


def left_out_section(left_out: Sequence[tuple[str, str]]) -> Section | None:
    """What isn't on the page and why, a line each, folded if there are several; None if nothing is
    left out."""
    if not left_out:
        return None
    verb = "isn't" if len(left_out) == 1 else "aren't"
    return Section(
        "left-out",
        "Left out",
        999,
        text=f"{plural(len(left_out), 'part')} of a page {verb} on this one.",
        table=Table(("part", "why"), list(left_out), is_folded=len(left_out) > IN_SIGHT),
        group="absent",
    )
