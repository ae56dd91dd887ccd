"""What a section shows at once, and what it folds: its first figure stands under the verdict, the
rest behind "Details". No sentence stands in a section twice.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..plots.panels import Control, Panel
from .figure_json import height, is_wide, panel_json, table_of
from .section import GROUPS, Section, Table

CAPTION = 170
"""Characters up to which sentences are taken into the caption under a section's first figure."""
CONTROL = 38
"""Pixels of a line of controls above a figure."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9'\"(])")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|cf|vs|Fig|Eq|No)\.$")


@dataclass(frozen=True)
class Figure:
    """A panel in its place on the page."""

    number: int
    panel: Panel
    file: str
    """The name of the picture's file, without its ending: letters, digits and dashes."""
    caption: str
    """What is seen, without what the section says already."""
    more: str
    """The rest of a long caption; it is folded."""
    controls: Sequence[Control]
    """All of the panel's controls, in the order of its frames."""
    values: Sequence[int]
    """By control: the value that the figure shows at first."""
    height: int
    """Pixels."""
    is_full: bool
    """It has all of the page's width; otherwise half of it."""

    @property
    def table(self) -> Table | None:
        """What the page writes in place of a figure that is a table."""
        return table_of(self.panel)

    @property
    def data(self) -> str:
        """What the page's script draws, as JSON."""
        return panel_json(self.panel, self.is_full, self.height)


@dataclass(frozen=True)
class View:
    """A section in its place on the page."""

    section: Section
    lead: Figure | None
    folded: Sequence[Figure]
    is_full: bool
    """It has a row to itself, all of whose width its first figure needs."""
    is_alone: bool
    """It has a row to itself, in which its first figure stands beside its words."""
    remarks: Sequence[tuple[str, Sequence[str]]]
    """Of the summary: what stands nowhere else in the section, a sentence each. One that lists
    several things is cut into its beginning and these."""

    @property
    def figures(self) -> Sequence[Figure]:
        """All of the section's figures."""
        return [*([self.lead] if self.lead else []), *self.folded]

    @property
    def has_details(self) -> bool:
        """Whether there is anything to fold."""
        return bool(
            self.lead or self.folded or self.remarks or self.section.numbers or self.section.conclusions
        )


def groups(sections: Iterable[Section], page: str) -> list[tuple[str, list[View]]]:
    """The headings of the page, each with its sections, in the order of `GROUPS`.

    Arguments:
        page: the title of the page, for the names of pictures' files.
    """
    sections, result, count = list(sections), [], 1
    for group, heading in GROUPS.items():
        views = []
        members = sorted((s for s in sections if s.group == group), key=lambda section: section.place)
        for section, is_alone in _rows(members):
            views.append(_view(section, is_alone, page, count))
            count += len(section.panels)
        if views:
            result.append((heading, _level(views)))
    return result


def sentences(text: str) -> list[str]:
    """A paragraph's sentences."""
    result: list[str] = []
    for piece in filter(None, _SENTENCE.split(text.strip())):
        if result and (_ABBREVIATION.search(result[-1]) or result[-1].count("(") > result[-1].count(")")):
            result[-1] += f" {piece}"
        else:
            result.append(piece)
    return result


def without(text: str, *others: str) -> list[str]:
    """The sentences of a text that don't stand in one of the others."""
    known = {sentence for other in others for sentence in sentences(other)}
    return [s for s in sentences(text) if s not in known and not any(s in other for other in others)]


def _rows(sections: Sequence[Section]) -> Iterator[tuple[Section, bool]]:
    """The sections in the order of the page, and which have a row to themselves: the wide ones, and
    one for which there is no second. Before a wide one, the next that is not wide is drawn
    forward."""
    left = list(sections)
    while left:
        first = left.pop(0)
        second = None if _needs_row(first) else next((s for s in left if not _needs_row(s)), None)
        yield first, second is None
        if second is not None:
            left.remove(second)
            yield second, False


def _level(views: Sequence[View]) -> list[View]:
    """The same with figures of one height in each row of two."""
    result, i = list(views), 0
    while i < len(result):
        if result[i].is_full or result[i].is_alone:
            i += 1
            continue
        leads = [view.lead for view in result[i : i + 2] if view.lead]
        bottom = max((lead.height + CONTROL * bool(lead.controls) for lead in leads), default=0)
        for at in (i, i + 1):
            if lead := result[at].lead:
                pixels = bottom - CONTROL * bool(lead.controls)
                result[at] = replace(result[at], lead=replace(lead, height=pixels))
        i += 2
    return result


def _needs_row(section: Section) -> bool:
    """Whether a section has a row to itself; also one of words alone, beside which there would be
    an empty half."""
    return bool(section.table) or not section.panels or is_wide(section.panels[0])


def _view(section: Section, is_alone: bool, page: str, first: int) -> View:
    is_full = _needs_row(section)
    figures = [
        _figure(first + i, panel, section, page, is_full and i == 0) for i, panel in enumerate(section.panels)
    ]
    captions = [text for f in figures for text in (f.panel.observation, f.panel.reading)]
    remarks = without(section.summary, section.text, section.evidence, *captions)
    return View(
        section,
        figures[0] if figures else None,
        [_whole(figure) for figure in figures[1:]],
        is_full,
        is_alone and not is_full,
        [_list(sentence) for sentence in remarks],
    )


def _figure(number: int, panel: Panel, section: Section, page: str, is_full: bool) -> Figure:
    seen = without(panel.observation, section.text)
    short = [seen[0]] if seen else []
    while len(short) < len(seen) and len(" ".join(seen[: len(short) + 1])) <= CAPTION:
        short.append(seen[len(short)])
    controls = list(_controls(panel))
    return Figure(
        number,
        panel,
        file="-".join(filter(None, (_slug(page), _slug(section.name), _slug(panel.title)))),
        caption=" ".join(short),
        more=" ".join(seen[len(short) :]),
        controls=controls,
        values=_values(panel.first, [len(control.labels) for control in controls]),
        height=height(panel, is_full),
        is_full=is_full,
    )


def _whole(figure: Figure) -> Figure:
    """The same with its caption in one piece, for a figure that is folded itself."""
    return replace(figure, caption=" ".join(filter(None, (figure.caption, figure.more))), more="")


def _controls(panel: Panel) -> Iterator[Control]:
    labels = [frame.label for frame in panel.frames]
    if panel.controls:
        yield from panel.controls
    elif labels and panel.control == "play":
        yield Control("Iteration", labels, "slide")
    elif labels and panel.menu_label == "Example":
        yield Control("Example", [f"{i}: {label}" for i, label in enumerate(labels, 1)])
    elif labels:
        yield Control(panel.menu_label, labels)


def _values(frame: int, sizes: Sequence[int]) -> list[int]:
    """By control, the value that belongs to a frame; frames are in row-major order."""
    result = []
    for size in reversed(sizes):
        frame, value = divmod(frame, size)
        result.append(value)
    return result[::-1]


def _list(sentence: str) -> tuple[str, list[str]]:
    """A sentence such as "Thresholds: a; b; c." as its beginning and what it lists."""
    start, colon, rest = sentence.partition(": ")
    items = rest.rstrip(".").split("; ")
    return (start + colon, items) if colon and len(items) > 2 else (sentence, [])


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]
