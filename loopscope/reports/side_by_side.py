"""Several subjects on one page: their verdicts and estimates in a table, and the first figure of
each section next to those of the others."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from .. import analyses as questions
from ..common.analysis_result import AnalysisResult
from .content import Content
from .section import Section, Table, anchor
from .section_numbers import unclear_names


def side_by_side(contents: Sequence[Content], command: str) -> Content:
    """The page that compares the subjects of several pages."""
    names = _names(contents)
    table = comparison(contents, names)
    sections = [Section("comparison", "Comparison", 0, text=_text(contents), table=table, group="answers")]
    for name in dict.fromkeys(section.name for content in contents for section in content.sections):
        for i, (subject, content) in enumerate(zip(names, contents, strict=True), 1):
            section = next((s for s in content.sections if s.name == name), None)
            if section is not None and section.panels:
                sections.append(_of_subject(section, subject, i))
    return Content(
        title=" and ".join(names) if len(names) < 4 else f"{names[0]} and {len(names) - 1} others",
        subtitle=" — ".join(content.subtitle for content in contents),
        sections=sections,
        results={},
        details=[
            (f"{subject} · {name}", value)
            for subject, content in zip(names, contents, strict=True)
            for name, value in content.details
        ],
        command=command,
        data={
            "subjects": [dict(content.data) for content in contents],
            "comparison": {"header": list(table.header), "rows": [list(row) for row in table.rows]},
        },
    )


def comparison(contents: Sequence[Content], names: Sequence[str]) -> Table:
    """A row for each verdict, for each estimate with its interval, and for each tile of the other
    sections; a column for each subject. A cell is empty where there is none."""
    rows: list[list[str]] = []
    for name in dict.fromkeys(name for content in contents for name in content.results):
        results = [content.results.get(name) for content in contents]
        title = str(getattr(questions.module(name), "TITLE", name))
        rows.append([title, *("" if result is None else _conclusion(result) for result in results)])
        estimates = [
            {} if result is None else {one.name: one.text for one in result.evidence.estimates}
            for result in results
        ]
        for quantity in dict.fromkeys(quantity for one in estimates for quantity in one):
            rows.append([f"{title}: {quantity}", *(one.get(quantity, "") for one in estimates)])
    measured = {anchor(name) for content in contents for name in content.results}
    tiles = [
        {t.caption: t.value for s in content.sections if s.name not in measured for t in s.tiles}
        for content in contents
    ]
    for caption in dict.fromkeys(caption for one in tiles for caption in one):
        rows.append([caption, *(one.get(caption, "") for one in tiles)])
    return Table(["", *names], rows)


def _conclusion(result: AnalysisResult) -> str:
    """A result's sentence; of an unclear one, by name, what it stands between."""
    is_open = result.verdict.name == "unclear" and bool(result.evidence.alternatives)
    return unclear_names(result) if is_open else result.sentence


def _names(contents: Sequence[Content]) -> list[str]:
    """The titles, numbered where several subjects have the same."""
    titles = [content.title for content in contents]
    count = Counter(titles)
    return [
        f"{title} ({titles[:i].count(title) + 1})" if count[title] > 1 else title
        for i, title in enumerate(titles)
    ]


def _text(contents: Sequence[Content]) -> str:
    """On how many analyses the subjects' verdicts agree."""
    shared = [name for name in contents[0].results if all(name in content.results for content in contents)]
    same = [name for name in shared if len({content.results[name].verdict for content in contents}) == 1]
    return (
        f"Of {len(shared)} analyses made of all {len(contents)}, {len(same)} give the same verdict. "
        "A difference between two numbers means something only where their intervals are apart."
    )


def _of_subject(section: Section, subject: str, number: int) -> Section:
    """A section with its first figure alone, as that of one subject."""
    panel = replace(section.panels[0], title=f"{section.panels[0].title}: {subject}")
    return Section(
        f"{section.name}-{number}",
        f"{section.title}: {subject}",
        section.place,
        [panel],
        text=section.text,
        group=section.group,
    )
