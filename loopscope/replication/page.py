"""The page of findings: a section for each, with its figures and its numbers."""

from collections.abc import Sequence
from datetime import UTC, datetime

from ..recorder.provenance import versions
from ..reports.document import Report
from ..reports.page import page
from ..reports.section import Section, Summary, Table, Tile, anchor
from .figures import panels
from .measurement import figure
from .replication import Replication, cost_text, has_intervals, status_text


def replication_page(one: Replication) -> Report:
    """One self-contained HTML page about a finding."""
    section = _section(one, 0)
    finding = one.finding
    html = page(
        title=f"Finding {finding.number}",
        subtitle=f"{finding.claim} · {finding.source}",
        summary=Summary([f"{finding.claim}.", _outcome(one), *_note(one)], _tiles(one)),
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
        text=" ".join([f"Criterion: {finding.criterion}.", *one.description.split()]),
        evidence=f"Metric: {finding.metric}.",
        table=_table(one),
        group="training",
    )


def _outcome(one: Replication) -> str:
    if not one.passed:
        return "It was not run yet."
    mean, seeds = "holds" if one.criterion_of_mean else "does not hold", sum(one.passed.values())
    return (
        f"Outcome: {one.status}. The criterion {mean} for the mean, and holds in {seeds} of "
        f"{len(one.passed)} seeds."
    )


def _note(one: Replication) -> list[str]:
    return [] if one.record is None or not one.record.note else [one.record.note]


def _table(one: Replication) -> Table | None:
    if not one.numbers:
        return None
    rows = [(name, figure(one.mean[name]), *values) for name, values in one.with_intervals.items()]
    passed = ["yes" if passed else "no" for passed in one.passed.values()]
    rows.append(("criterion holds", "yes" if one.criterion_of_mean else "no", *passed))
    name = "number, with its 95 % interval" if has_intervals(one) else "number"
    return Table((name, "mean", *(f"seed {seed}" for seed in one.numbers)), rows)


def _tiles(one: Replication) -> Sequence[Tile]:
    tiles = [
        Tile(str(one.status), f"the criterion holds in {sum(one.passed.values())} of {len(one.passed)} seeds")
    ]
    return [*tiles, *(Tile(figure(value), f"{name}, mean") for name, value in one.mean.items())][:6]


def _details(one: Replication) -> list[tuple[str, str]]:
    rows = [("status", status_text(one))]
    if one.attempt is not None:
        rows += [
            ("commit of the recipe", one.attempt.commit),
            ("seeds", ", ".join(map(str, one.attempt.seeds))),
        ]
    rows.append(("cost", cost_text(one)))
    return [*rows, ("page made with", ", ".join(f"{name} {version}" for name, version in versions().items()))]
