"""The section of an analysis on a page."""

from dataclasses import replace
from types import ModuleType
from typing import cast

from .. import analyses as questions
from ..common.analysis_result import AnalysisResult
from ..common.errors import LoopscopeError
from ..plots.panels import Panel
from ..runs.run import Run
from ..training.history import History
from .section import NO_RANK, Group, Section, Tile, Topic, anchor
from .section_numbers import conclusions_of, evidence_line, numbers_of, verdict_line


def analysis_section(
    name: str, run: Run | History, wanted: bool, results: dict[str, AnalysisResult], budget: str | None = None
) -> Section | None:
    """An analysis' panels, or its figure with its verdict. None if the analysis doesn't apply. Its
    result is added to `results`.

    Besides measure and draw, an analysis may define TITLE, GROUP (of `section.GROUPS`), PLACE (by
    which the sections of a group are sorted), TOPIC (on which its sentence stands in the page's
    summary), RANK (of its tile there), applies(run), panels(result), claim(result) -> its sentence
    in the summary, headline(result) -> (value, caption), price(run, **options) and REDUCED (see
    `loopscope.analyses.measure`'s budget).
    """
    module = questions.module(name)
    title, place = getattr(module, "TITLE", name.replace("_", " ").capitalize()), getattr(module, "PLACE", 50)
    group = cast(Group, getattr(module, "GROUP", "dynamics"))
    if not wanted and hasattr(module, "applies") and not module.applies(run):
        return None
    try:
        result = questions.measure(name, run, budget=budget)
    except LoopscopeError as error:
        return Section(anchor(name), title, place, text=f"Not measured: {error}", group=group)
    results[name] = result
    panels = module.panels(result) if hasattr(module, "panels") else [_panel(title, result, module.__doc__)]
    if verdict_line(result) != result.sentence:  # the conclusions are in a table
        panels = [
            replace(panel, observation=panel.observation.replace(result.sentence, "").strip())
            for panel in panels
        ]
    value, caption = (
        module.headline(result) if hasattr(module, "headline") else (result.verdict.name, result.sentence)
    )
    return Section(
        anchor(name),
        title,
        place,
        panels,
        text=verdict_line(result),
        summary=result.summary().replace(result.sentence, "").strip(),
        tiles=[Tile(value, caption)],
        group=group,
        topic=cast(Topic, getattr(module, "TOPIC", "")),
        claim=_claim(module, result),
        rank=NO_RANK if result.verdict.name == "unclear" else getattr(module, "RANK", NO_RANK),
        evidence=evidence_line(result.evidence, verdict_line(result)),
        numbers=numbers_of(result),
        conclusions=conclusions_of(result),
    )


def _claim(module: ModuleType, result: AnalysisResult) -> str:
    """The section's sentence in the summary; none of an unclear verdict, which is named there."""
    if result.verdict.name == "unclear":
        return ""
    return module.claim(result) if hasattr(module, "claim") else result.sentence


def _panel(title: str, result: AnalysisResult, docstring: str | None) -> Panel:
    reading = (docstring or "").strip().split("\n\n")[0]
    return Panel(title, result.figure(), result.sentence, reading)
