"""report: the analyses of a run on one page."""

import contextlib
import os
import re
import shlex
import tempfile
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from markupsafe import Markup

from .. import analyses as questions
from .. import models
from ..common import discovery
from ..common.analysis_result import AnalysisResult
from ..common.arguments import FilePath
from ..common.atomic_write import save_text
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..plots.panels import Panel
from ..recorder.labels import task_of
from ..recorder.record_run import record
from ..runs.run import Run
from . import accuracy, answers, reproducibility, trajectory
from .card_html import card_html
from .page import page
from .section import Section, Tile

EXAMPLES, SEED, SMALL = 64, 0, 20_000_000


@dataclass(frozen=True)
class Report:
    """One self-contained HTML page."""

    html: str
    title: str

    def save(self, path: FilePath) -> Path:
        """Write the page, completely or not at all. Returns its path."""
        path = Path(path)
        try:
            save_text(path, self.html)
        except OSError as error:
            raise LoopscopeError(
                f"the report must be written to {path}, but that failed: {error.strerror or error}. "
                "An existing file is unchanged. Free some space, or choose another place."
            ) from error
        return path

    def open(self) -> Path:
        """Show the page in the browser, from a temporary file, whose path is returned."""
        path = self.save(Path(tempfile.mkdtemp(prefix="loopscope-")) / "report.html")
        webbrowser.open(path.as_uri())
        return path

    def __repr__(self) -> str:
        return f"Report {self.title} · {len(self.html) / 1e6:.1f} MB · .save(path) or .open()"


@guarded
def report(run: Run | FilePath, analyses: Sequence[str] | None = None) -> Report:
    """A page about a run, or about a trained entry, of which it first records a run.

    >>> ls.report(run).save("report.html")
    >>> ls.report("universal-prefix-parity", analyses=["convergence"]).open()

    Arguments:
        run: a recorded run, the name of a trained entry, or the path of a checkpoint.
        analyses: names of those to show; None: every analysis that applies to the run.

    Raises:
        LoopscopeError: there is no analysis or entry of that name, or the states aren't finite.
    """
    names = (
        questions.names() if analyses is None else [analyses] if isinstance(analyses, str) else list(analyses)
    )
    for name in names:
        discovery.checked_name("analysis", name, questions.names())  # before anything is recorded
    with _threads(run):
        return _report(run, names, wanted=analyses is not None)


def _report(run: Run | FilePath, names: Sequence[str], wanted: bool) -> Report:
    entry = None
    if isinstance(run, Run):
        entry = run.origin.get("entry") if run.origin.get("entry") in models.entries() else None
        command = 'ls.report(run).save("report.html")   # with the run described above'
    else:
        entry = os.fspath(run)
        command = f"loopscope report {shlex.quote(entry)} -o report.html"
        model = models.load(entry)
        run = record(model, model.task.batch(EXAMPLES, seed=SEED).tokens)
        command += f"\n# records model.task.batch({EXAMPLES}, seed={SEED}), {run.iterations} iterations"
    run.require_finite()
    parts = [module.section(run) for module in (accuracy, answers, trajectory)]
    results: dict[str, AnalysisResult] = {}
    parts += [_analysis_section(name, run, wanted, results) for name in names]
    sections = sorted((s for s in parts if s is not None), key=lambda s: s.place)
    title = str(run.origin.get("entry") or run.origin.get("architecture") or "A looped model")
    html = page(
        title=title,
        subtitle=_subtitle(run),
        tiles=[tile for section in sections for tile in section.tiles],
        card=_card(entry),
        sections=sections,
        details=reproducibility.rows(run),
        command=command,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    return Report(html, title)


@contextlib.contextmanager
def _threads(run: Any) -> Iterator[None]:
    """Use one thread for a small model: its page needs many small computations, for which more
    threads only cost time when the cores are shared (measured: 106 s of processor time with two,
    26 s with one)."""
    before, parameters = torch.get_num_threads(), 0
    with contextlib.suppress(LoopscopeError):  # no model
        parameters = sum(p.numel() for p in run.model.parameters()) if isinstance(run, Run) else 0
    torch.set_num_threads(1 if parameters < SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _analysis_section(
    name: str, run: Run, wanted: bool, results: dict[str, AnalysisResult]
) -> Section | None:
    """An analysis' panels, or its figure with its verdict. None if the analysis doesn't apply. Its
    result is added to `results`.

    Besides measure and draw, an analysis may define TITLE, PLACE (by which sections are sorted),
    applies(run), panels(result), headline(result) -> (value, caption).
    """
    module = discovery.module("analyses", name)
    title, place = getattr(module, "TITLE", name.replace("_", " ").capitalize()), getattr(module, "PLACE", 50)
    address = re.sub(r"[^a-z0-9]+", "-", name.lower())
    if not wanted and hasattr(module, "applies") and not module.applies(run):
        return None
    try:
        result = questions.measure(name, run)
    except LoopscopeError as error:
        return Section(address, title, place, text=f"Not measured: {error}")
    results[name] = result
    panels = module.panels(result) if hasattr(module, "panels") else [_panel(title, result, module.__doc__)]
    value, caption = (
        module.headline(result) if hasattr(module, "headline") else (result.verdict.name, result.sentence)
    )
    return Section(
        address,
        title,
        place,
        panels,
        text=result.sentence,
        summary=result.summary(),
        tiles=[Tile(value, caption)],
    )


def _panel(title: str, result: AnalysisResult, docstring: str | None) -> Panel:
    reading = (docstring or "").strip().split("\n\n")[0]
    return Panel(title, result.figure(), result.sentence, reading)


def _card(entry: str | None) -> tuple[Markup, Markup] | None:
    """The card next to the entry's weights, in two parts; None for a checkpoint without one."""
    if entry is None or not models.path(entry).with_suffix(".md").is_file():
        return None
    return card_html(models.card(entry))


def _subtitle(run: Run) -> str:
    """The run in one line."""
    origin, task = run.origin, task_of(run)
    name = str(origin.get("architecture") or "module")
    parts = [name]
    with contextlib.suppress(LoopscopeError):
        parts.append(f"{sum(p.numel() for p in run.model.parameters()):,} parameters")
    if task is not None:
        parts.append(
            f"trained on {task.name} ({task.difficulty_option} {task.options[task.difficulty_option]})"
        )
    batch, positions, *_ = run.states.shape[1:] if len(run.states.shape) > 2 else (0, 0)
    parts.append(f"{run.iterations} iterations recorded on {batch} examples of {positions} positions")
    return " · ".join(parts)
