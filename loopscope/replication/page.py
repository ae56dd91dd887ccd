"""The page of findings: a section for each, with its figures and its numbers."""

from collections.abc import Sequence
from datetime import UTC, datetime

from ..common.text import number
from ..recorder.provenance import versions
from ..reports.document import Report
from ..reports.page import page
from ..reports.section import Section, Summary, Table, Tile, anchor
from .figures import panels
from .replication import Replication, status_text


def replication_page(one: Replication) -> Report:
    """One self-contained HTML page about a finding."""
    section = _section(one, 0)
    finding = one.finding
    html = page(
        title=f"Finding {finding.number}",
        subtitle=f"{finding.claim} · {finding.source}",
        summary=Summary([f"{finding.claim}: {one.status}."], _tiles(one)),
        card=None,
        sections=[section],
        details=_details(one),
        command=f"loopscope findings run {finding.number} --page finding.html",
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    figures = [(section.name, panel) for panel in section.panels]
    return Report(html, f"Finding {finding.number}", one.to_dict(), figures)


def _section(one: Replication, place: int) -> Section:
    finding = one.finding
    return Section(
        anchor(one.name),
        finding.claim,
        place,
        panels(one),
        text=f"Criterion: {finding.criterion}",
        evidence=f"Metric: {finding.metric}",
        table=_table(one),
        group="training",
    )


def _table(one: Replication) -> Table | None:
    if not one.numbers:
        return None
    rows = [
        (name, number(value), *(number(by.get(name, float("nan"))) for by in one.numbers.values()))
        for name, value in one.mean.items()
    ]
    passed = ["yes" if passed else "no" for passed in one.passed.values()]
    rows.append(("criterion holds", "yes" if one.criterion_of_mean else "no", *passed))
    return Table(("number", "mean", *(f"seed {seed}" for seed in one.numbers)), rows)


def _tiles(one: Replication) -> Sequence[Tile]:
    tiles = [
        Tile(str(one.status), f"the criterion holds in {sum(one.passed.values())} of {len(one.passed)} seeds")
    ]
    return [*tiles, *(Tile(number(value), f"{name}, mean") for name, value in one.mean.items())][:6]


def _details(one: Replication) -> list[tuple[str, str]]:
    rows = [("status", status_text(one))]
    if one.attempt is not None:
        rows += [
            ("commit of the recipe", one.attempt.commit),
            ("seeds", ", ".join(map(str, one.attempt.seeds))),
        ]
        seconds = sum(m.seconds for m in one.attempt.measured)
        rows.append(("processor time", f"{seconds:,.0f} s"))
    if one.record is not None and one.record.note:
        rows.append(("note", one.record.note))
    return [*rows, ("page made with", ", ".join(f"{name} {version}" for name, version in versions().items()))]
