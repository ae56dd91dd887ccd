"""report: the analyses of a run, of a training or of several runs on one page."""

import contextlib
import json
import os
import shlex
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import torch
from markupsafe import Markup

from .. import analyses as questions
from .. import models
from ..common.arguments import Count, FilePath, PositiveCount, Seed
from ..common.errors import LoopscopeError, LoopscopeWarning
from ..common.guard import guarded
from ..common.price import Budget
from ..common.progress import progress as progress_bar
from ..common.text import plural
from ..common.to_json import to_json
from ..recorder.generation import Generation
from ..recorder.labels import task_of
from ..recorder.record_run import record
from ..recorder.run_depth import beyond_of, is_stack
from ..run_loading import EXAMPLES
from ..runs.run import Run
from ..training.history import History
from . import reproducibility, training_curves
from .analysis_section import analysis_section
from .card_html import card_html
from .content import Content, left_out_section, page_data
from .document import Report
from .fates import reconcile
from .page import page
from .run_sections import run_sections, subject_of
from .side_by_side import side_by_side
from .spending import Spending
from .subjects import Recording, Subject, subjects_of
from .summary import summary

SMALL = 20_000_000
"""Parameters of a model, below which its page is made by one thread."""


# It is long because its docstring explains ten arguments.
@guarded
def report(
    subject: Run | Generation | History | FilePath | Sequence[Run | Generation | History | FilePath],
    analyses: Any = None,
    *,
    iterations: Count | None = None,
    examples: PositiveCount | None = None,
    seed: Seed = 0,
    texts: Sequence[str] = (),
    trust_remote_code: bool = False,
    cdn: bool = False,
    progress: bool | None = None,
    budget: float | str | None = None,
) -> Report:
    """A page about a run, a trained entry, a training or a model; or about several runs or entries
    side by side. What is no run yet is recorded first.

    >>> ls.report(run).save("report.html")                      # and report.json with its numbers
    >>> ls.report("universal-prefix-parity", analyses=["convergence"]).open()
    >>> ls.report(["recall-plain", "recall-outer"]).save("both.html")
    >>> ls.report("runs/mine").save_figures("figures")          # a training's folder

    Arguments:
        subject: a run, a generation or a saved one, the name of an entry, the path of a checkpoint,
            a training's history or folder, a Hugging Face model; or a list of them, except
            trainings.
        analyses: those to show: names, or your own as `loopscope.analyses.measure` takes them, or a
            list of them; None: every analysis that applies.
        iterations: to record; None: the model's own depth.
        examples: to record; None: 64 of an entry, 8 of a Hugging Face model.
        seed: of the examples.
        texts: for a Hugging Face model to read; none: random tokens.
        trust_remote_code: run the code that comes with a Hugging Face model. Read it first.
        cdn: load plotly's script from its server, so that the page is 5 MB smaller and needs a
            network.
        progress: say on stderr what is being measured; None: on a terminal or in a notebook.
        budget: what the analyses of each subject may cost together: forward passes of the recorded
            batch, such as 500 or "500 passes", or a time, such as "2 min". They are measured with
            fewer examples and directions where it is needed, and say so; what doesn't fit is left
            out, with its price. None: 10 minutes for a model of 20 million parameters or more
            whose page would take longer, else no limit.

    Raises:
        LoopscopeError: there is nothing to report on under that name, no analysis of that name, an
            option has no effect on the subject, or the states aren't finite.
    """
    names = report_names(analyses)  # before anything is recorded
    allowed = None if budget is None else Budget.of(budget)
    recording = Recording(
        iterations, examples, seed, tuple(texts), trust_remote_code, "" if budget is None else str(budget)
    )
    subjects = subjects_of(subject, recording)
    steps = len(subjects) * (len(names) + 2)
    with progress_bar("", steps, progress, begun=-1) as step:
        contents = [
            _content(one, recording, names, wanted=analyses is not None, step=step, budget=allowed)
            for one in subjects
        ]
    if len(contents) == 1:
        return _document(contents[0], cdn)
    several = " ".join(shlex.quote(one.name or "RUN") for one in subjects)
    return _document(side_by_side(contents, f"loopscope report {several}{recording.options}"), cdn)


def report_names(analyses: Any) -> list[str]:
    """The names of the analyses to show."""
    if analyses is None:
        return [name for name in questions.names() if _importable(name)]
    several = isinstance(analyses, Sequence) and not isinstance(analyses, str)
    return [questions.name_of(one) for one in (analyses if several else [analyses])]


def _importable(name: str) -> bool:
    """Whether an analysis can be imported; a package whose can't is named in a warning."""
    try:
        questions.module(name)
    except LoopscopeError as error:
        warnings.warn(f"{error} The page is made without it.", LoopscopeWarning, stacklevel=4)
        return False
    return True


def _document(content: Content, cdn: bool) -> Report:
    sections = sorted(content.sections, key=lambda section: section.place)
    fates = reconcile(content.results, content.beyond)
    html = page(
        title=content.title,
        subtitle=content.subtitle,
        summary=summary(content.results, sections, fates),
        card=content.card,
        sections=sections,
        details=content.details,
        command=content.command,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        cdn=cdn,
    )
    panels = [(section.name, panel) for section in sections for panel in section.panels]
    return Report(html, content.title, content.data, panels)


def _content(
    subject: Subject,
    recording: Recording,
    names: Sequence[str],
    *,
    wanted: bool,
    step: Callable[[str], None],
    budget: Budget | None,
) -> Content:
    step(f"reading {subject.name}" if subject.name else "looking at what was recorded")
    with _threads(None) if subject.kind != "model" else contextlib.nullcontext():
        value = subject.load(recording)
    command = subject.command(recording)
    if isinstance(value, History):
        return _training_content(
            value, recording, names, command=command, wanted=wanted, step=step, budget=budget
        )
    command += subject.recording_comment(value, recording)
    with _threads(value):
        spending = Spending(value, names, budget)
        parts, results, left_out = run_sections(value, names, wanted, step, spending)
    name = str(value.origin.get("entry") or value.origin.get("architecture") or "A looped model")
    title = os.path.basename(os.path.normpath(name)) if os.path.isdir(name) else name
    data = page_data(title, subject.kind, parts, results, left_out, **_recorded(value))
    parts += [section for section in [left_out_section(left_out)] if section is not None]
    details = reproducibility.rows(value) + _budget_rows(spending)
    return Content(
        title,
        _subtitle(value),
        parts,
        results,
        details,
        command,
        data,
        _card(subject.entry),
        beyond_of(value),
    )


def _training_content(
    history: History,
    recording: Recording,
    names: Sequence[str],
    *,
    command: str,
    wanted: bool,
    step: Callable[[str], None],
    budget: Budget | None,
) -> Content:
    """The page of a training: its curves, the analyses of histories, and its final model."""
    of_training = [name for name in names if subject_of(name) == "history"]
    sections, results, left_out = [training_curves.section(history)], {}, []
    for name in of_training:
        step(name)
        section = analysis_section(name, history, True, results)
        sections += [section] if section is not None else []
    more: dict[str, Any] = {"recipe": history.recipe}
    details, subtitle = [("recipe", json.dumps(to_json(history.recipe)))], repr(history)
    try:
        model = history.model(-1)
        batch = model.task.batch(recording.examples or EXAMPLES, seed=recording.seed)
        run = record(model, batch.tokens, recording.iterations)
    except LoopscopeError as error:
        left_out = [("the final model", str(error))]
    else:
        with _threads(run):
            rest = [name for name in names if name not in of_training]
            spending = Spending(run, rest, budget)
            parts, run_results, left_out = run_sections(run, rest, wanted, step, spending)
        sections, results = [*sections, *parts], results | run_results
        more |= _recorded(run)
        details += reproducibility.rows(run) + _budget_rows(spending)
        subtitle = f"{history!r} · {_subtitle(run)}"
    data = page_data(history.entry, "training", sections, results, left_out, **more)
    sections += [section for section in [left_out_section(left_out)] if section is not None]
    return Content(history.entry, subtitle, sections, results, details, command, data)


def _budget_rows(spending: Spending) -> list[tuple[str, str]]:
    return [("budget", spending.text)] if spending.text else []


def _recorded(run: Run) -> dict[str, Any]:
    """What was recorded, for the page's data."""
    origin = {name: value for name, value in run.origin.items() if name != "token_strings"}  # a vocabulary
    return {"origin": origin, "iterations": run.iterations, "sites": run.names}


@contextlib.contextmanager
def _threads(run: Run | None) -> Iterator[None]:
    """Use one thread for a small model: its page needs many small computations, for which more
    threads only cost time when the cores are shared (measured: 106 s of processor time with two,
    26 s with one)."""
    before, parameters = torch.get_num_threads(), 0
    with contextlib.suppress(LoopscopeError):  # no model
        parameters = 0 if run is None else sum(p.numel() for p in run.model.parameters())
    torch.set_num_threads(1 if parameters < SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
    if is_stack(run):
        parts.append("one iteration is the whole model; later ones, if any, are its blocks applied again")
    batch, positions, *_ = run.states.shape[1:] if len(run.states.shape) > 2 else (0, 0)
    parts.append(
        f"{plural(run.iterations, 'iteration')} recorded on {plural(batch, 'example')} of "
        f"{plural(positions, 'position')}"
    )
    return " · ".join(parts)
