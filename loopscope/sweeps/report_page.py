"""The page of a sweep: the phase diagram, all seeds, the learning curves, the table of all
trainings, and how to reproduce it."""

import json
import os
import platform
import shlex
from datetime import UTC, datetime

from ..recorder.provenance import versions
from ..reports.document import Report
from ..reports.page import page
from ..reports.section import Section, Summary, Table, Tile
from .captions import Captions, captions_of
from .conditions import condition_axes, conditions
from .figures import learning_curves, seed_medians
from .grid import format_value
from .phase_diagram import phase_diagram
from .sweep_result import SweepResult


def report_page(sweep: SweepResult) -> Report:
    """One self-contained HTML page about a sweep."""
    captions = captions_of(sweep)
    panels = [phase_diagram(sweep, captions), seed_medians(sweep, captions)]
    sections = [
        Section("phases", "Phase diagram", 0, [p for p in panels if p is not None], group="training"),
        Section("curves", "Learning curves", 1, [learning_curves(sweep, captions)], group="training"),
        Section(
            "trainings",
            "All trainings",
            2,
            text=f"Each has its own folder in {sweep.folder}, with its log, last checkpoint and weights.",
            table=_table(sweep, captions),
            group="training",
        ),
    ]
    html = page(
        title=sweep.grid.name,
        subtitle=_subtitle(sweep),
        summary=Summary([str(sweep)], _tiles(sweep, captions)[:6]),
        card=None,
        sections=sections,
        details=_details(sweep),
        command=f"loopscope sweep {shlex.quote(sweep.grid.name)}.toml --folder "
        f"{shlex.quote(str(sweep.folder))}\n\n"
        f"# {sweep.grid.name}.toml\n{sweep.grid.text.strip()}",
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    figures = [(section.name, panel) for section in sections for panel in section.panels]
    return Report(html, sweep.grid.name, panels=figures)


def _subtitle(sweep: SweepResult) -> str:
    recipes = [trial.recipe for trial in sweep.grid.trials]
    parts = [
        ", ".join(sorted({recipe.architecture for recipe in recipes})),
        ", ".join(sorted({recipe.task for recipe in recipes})),
        " × ".join(f"{axis.short_name} ({len(axis.values)})" for axis in sweep.grid.axes)
        + f" = {len(recipes)} trainings",
    ]
    return " · ".join(parts)


def _tiles(sweep: SweepResult, captions: Captions) -> list[Tile]:
    count = sum(result.status == "finished" for result in sweep.results)
    tiles = [Tile(f"{count} of {len(sweep.results)}", "trainings finished")]
    if captions.by_delay:
        phases = [result.phase for result in sweep.results if result.phase is not None]
        for phase, caption in (
            ("generalised", "generalised"),
            ("memorised", "memorised but had not generalised when training ended"),
        ):
            tiles.append(Tile(f"{phases.count(phase)} of {len(phases)}", caption))
    medians = [
        (c.median.value, c) for c in conditions(sweep) if c.median is not None and c.median.value is not None
    ]
    if medians and condition_axes(sweep):
        value, best = (min if captions.by_delay else max)(medians, key=lambda pair: pair[0])
        what = (
            "steps: the shortest median delay" if captions.by_delay else f"the best median {captions.score}"
        )
        tiles.append(Tile(captions.format(value), f"{what}, at {best.label}"))
    return tiles


def _table(sweep: SweepResult, captions: Captions) -> Table:
    header = [*(axis.short_name for axis in sweep.grid.axes), captions.score, "at twice the length"]
    header += ["memorised at", "generalised at", "delay"] if captions.by_delay else []
    rows = []
    for trial, result in zip(sweep.grid.trials, sweep.results, strict=True):
        row = [
            format_value(axis.values[i]) for axis, i in zip(sweep.grid.axes, trial.coordinates, strict=True)
        ]
        row += ["" if value is None else f"{value:.4f}" for value in (result.score, result.twice)]
        if captions.by_delay:
            times = (result.learning_times.get(name) for name in ("train", "test"))
            row += [
                "never" if result.phase and time is None else "" if time is None else f"{time.step:,.0f}"
                for time in times
            ]
            bound = "" if result.delay_bound is None else f"> {result.delay_bound:,.0f}"
            row.append(bound if result.delay is None else f"{result.delay:,.0f}")
        row += [
            "" if result.seconds is None else f"{result.seconds:,.0f} s",
            f"failed: {result.error}" if result.error else result.status,
            trial.name.rpartition("_")[2],
        ]
        rows.append(row)
    return Table([*header, "processor time", "status", "folder ends in"], rows)


def _details(sweep: SweepResult) -> list[tuple[str, str]]:
    seconds = [result.seconds for result in sweep.results if result.seconds is not None]
    resumed = sum(result.resumed_step > 0 for result in sweep.results)
    software = {"Python": platform.python_version(), **versions()}
    rows = [
        ("recipe of the first training", json.dumps(sweep.grid.trials[0].recipe.to_json())),
        (
            "processor time",
            f"{sum(seconds):,.0f} s in all, {max(seconds, default=0):,.0f} s for the longest training",
        ),
        ("page made with", ", ".join(f"{name} {version}" for name, version in software.items())),
        (
            "machine",
            f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, one thread per training",
        ),
    ]
    if resumed:
        rows.insert(2, ("interrupted", f"the last sweep resumed {resumed} trainings from their checkpoints"))
    return rows
