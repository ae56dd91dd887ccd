"""run_sections: the sections of a run's page, and what was left out."""

from collections.abc import Callable, Sequence

from .. import analyses as questions
from ..common.analysis_result import AnalysisResult
from ..common.errors import LoopscopeError
from ..recorder.labels import task_of
from ..runs.run import Run
from . import accuracy, answers, trajectory
from .analysis_section import analysis_section
from .section import Section
from .spending import Spending

_NOT_APPLICABLE = (
    "It doesn't apply to this run, or would take minutes: ls.analyses.measure('{}', run) says what it needs, "
    "or measures it."
)


def run_sections(
    run: Run, names: Sequence[str], wanted: bool, step: Callable[[str], None], spending: Spending
) -> tuple[list[Section], dict[str, AnalysisResult], list[tuple[str, str]]]:
    """The sections of a run's page, the results of its analyses, and what was left out and why."""
    run.require_finite()
    step("accuracy, answers and trajectory")
    results: dict[str, AnalysisResult] = {}
    sections, left_out = [], []
    for title, module in (("Accuracy", accuracy), ("Answers", answers), ("Trajectory", trajectory)):
        section = _accuracy(run, spending, left_out) if module is accuracy else module.section(run)
        if section is None:
            left_out.append((title, _missing(run, title)))
        else:
            sections.append(section)
    for name in names:
        step(name)
        section = analysis_section(name, run, wanted, results, spending.share(name))
        if section is not None and name not in results and not wanted:
            left_out.append((section.title, section.text.removeprefix("Not measured: ")))
        elif section is None and subject_of(name) == "run":
            module = questions.module(name)
            left_out.append((getattr(module, "TITLE", name), _NOT_APPLICABLE.format(name)))
        elif section is not None:
            sections.append(section)
    return sections, results, left_out


def _accuracy(run: Run, spending: Spending, left_out: list[tuple[str, str]]) -> Section | None:
    """The section on accuracy, without that of longer examples where it would cost a large part of
    the budget."""
    price = accuracy.longer_price(run)
    if price.passes <= spending.left / 4:
        spending.spend(price)
        return accuracy.section(run)
    left_out.append(("Accuracy on longer examples", f"It costs {price.text}, a large part of the budget."))
    return accuracy.section(run, longer=False)


def _missing(run: Run, title: str) -> str:
    """Why a run has no such section."""
    if title == "Trajectory":
        return "It needs a state vector at each position, which changes, after three or more iterations."
    try:
        _ = run.model
    except LoopscopeError as error:
        return str(error)
    if title == "Accuracy" and task_of(run) is None:
        return "The model has no task, so that there are no correct answers to compare with."
    return "The states can't be read out as tokens of the model's task."


def subject_of(name: str) -> str:
    """What an analysis is put to: "run" or "history"."""
    return getattr(questions.module(name), "SUBJECT", "run")
