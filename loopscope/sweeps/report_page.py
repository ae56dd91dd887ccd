"""A sweep on one page: phase diagram, every seed, the curves, the table of all trainings, how to
make it again."""

import json
import os
import platform
import shlex
from datetime import UTC, datetime

from ..recorder.provenance import versions
from ..reports.page import page
from ..reports.report import Report
from ..reports.section import Section, Table, Tile
from .captions import Words, words_of
from .conditions import cell_axes, cells
from .figures import curves, every_seed, phase_diagram
from .grid import spelled
from .sweep import Sweep


def page_of(sweep: Sweep) -> Report:
    """One self-contained HTML page."""
    words = words_of(sweep)
    panels = [panel for panel in (phase_diagram(sweep, words), every_seed(sweep, words)) if panel is not None]
    sections = [
        Section("phases", "Where it learns", 0, panels),
        Section("curves", "How it learned", 1, [curves(sweep, words)]),
        Section(
            "trainings",
            "All trainings",
            2,
            text=f"{str(sweep)} Each has a folder of its own in {sweep.folder}, with its log, last "
            "checkpoint and weights.",
            table=_table(sweep, words),
        ),
    ]
    html = page(
        title=sweep.grid.name,
        what=_what(sweep),
        tiles=_tiles(sweep, words),
        card=None,
        sections=sections,
        colophon=_colophon(sweep),
        command=f"loopscope sweep {shlex.quote(sweep.grid.name)}.toml --folder "
        f"{shlex.quote(str(sweep.folder))}\n\n"
        f"# {sweep.grid.name}.toml\n{sweep.grid.text.strip()}",
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    return Report(html, sweep.grid.name)


def _what(sweep: Sweep) -> str:
    recipes = [trial.recipe for trial in sweep.grid.trials]
    parts = [
        ", ".join(sorted({recipe.architecture for recipe in recipes})),
        ", ".join(sorted({recipe.task for recipe in recipes})),
        " × ".join(f"{axis.short} ({len(axis.values)})" for axis in sweep.grid.axes)
        + f" = {len(recipes)} trainings",
    ]
    return " · ".join(parts)


def _tiles(sweep: Sweep, words: Words) -> list[Tile]:
    done = sum(result.status == "finished" for result in sweep.outcomes)
    tiles = [Tile(f"{done} of {len(sweep.outcomes)}", "trainings finished")]
    if words.dated:
        judged = [result for result in sweep.outcomes if result.phase is not None]
        for phase, caption in (
            ("generalised", "generalised"),
            ("memorised", "memorised and hadn't generalised by their end"),
        ):
            tiles.append(Tile(f"{sum(o.phase == phase for o in judged)} of {len(judged)}", caption))
    known = [
        (c.middle.median, c) for c in cells(sweep) if c.middle is not None and c.middle.median is not None
    ]
    if known and cell_axes(sweep):
        best = (min if words.dated else max)(known, key=lambda pair: pair[0])
        what = "steps: the shortest median delay" if words.dated else f"the best median {words.score}"
        tiles.append(Tile(words.value(best[0]), f"{what}, at {best[1].label}"))
    return tiles


def _table(sweep: Sweep, words: Words) -> Table:
    header = [*(axis.short for axis in sweep.grid.axes), words.score, "at twice the length"]
    header += ["memorised at", "generalised at", "delay"] if words.dated else []
    rows = []
    for trial, result in zip(sweep.grid.trials, sweep.outcomes, strict=True):
        row = [spelled(axis.values[i]) for axis, i in zip(sweep.grid.axes, trial.coordinates, strict=True)]
        row += ["" if value is None else f"{value:.4f}" for value in (result.score, result.twice)]
        if words.dated:
            dates = (result.learned.get(name) for name in ("train", "test"))
            row += [
                "never" if result.phase and d is None else "" if d is None else f"{d.step:,.0f}"
                for d in dates
            ]
            late = "" if result.waited is None else f"> {result.waited:,.0f}"
            row.append(late if result.delay is None else f"{result.delay:,.0f}")
        row += [
            "" if result.seconds is None else f"{result.seconds:,.0f} s",
            f"failed: {result.failed}" if result.failed else result.status,
            trial.name.rpartition("_")[2],
        ]
        rows.append(row)
    return Table([*header, "processor time", "status", "folder ends in"], rows)


def _colophon(sweep: Sweep) -> list[tuple[str, str]]:
    spent = [result.seconds for result in sweep.outcomes if result.seconds is not None]
    resumed = sum(result.resumed > 0 for result in sweep.outcomes)
    first = sweep.grid.trials[0]
    return [
        ("the first training's recipe", json.dumps(first.recipe.to_json())),
        (
            "processor time",
            f"{sum(spent):,.0f} s in all, {max(spent, default=0):,.0f} s for the longest training",
        ),
        *(
            [("interrupted", f"{resumed} trainings went on from a checkpoint in the last sweep")]
            if resumed
            else []
        ),
        (
            "page made with",
            ", ".join(f"{k} {v}" for k, v in {"Python": platform.python_version(), **versions()}.items()),
        ),
        (
            "machine",
            f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, a thread for each training",
        ),
    ]
