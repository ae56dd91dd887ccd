"""The numbers of a result as a section shows them: in a line under the verdict, and as a table."""

import math

from ..common.analysis_result import AnalysisResult
from ..common.evidence import CONSTANT, Estimate, Evidence
from ..common.text import percent
from ..recorder.within_budget import NOTE
from .section import Table

IN_LINE = 2
"""Estimates, and conclusions of examples, in the line under the verdict; tables have all."""

COUNTED = "“"
"""A sentence that counts conclusions begins with one of them, in quotation marks."""


def verdict_line(result: AnalysisResult) -> str:
    """The verdict as a section shows it: what an unclear one stands between is in the table."""
    if result.verdict.name != "unclear" or not result.evidence.alternatives:
        return result.sentence
    return unclear_names(result)


def unclear_names(result: AnalysisResult) -> str:
    """What an unclear verdict stands between, by the beginnings of its conclusions."""
    names = [f"“{one.brief}”" for one in result.evidence.alternatives]
    if len(names) == 1:
        return f"Unclear: {names[0]} is possible, but not established."
    return f"Unclear: these numbers allow {', '.join(names[:-1])} and {names[-1]}."


def evidence_line(evidence: Evidence, claim: str = "") -> str:
    """What a verdict rests on: how it was decided, unless the claim above says it already, and the
    first known estimates with their intervals."""
    how = "" if evidence.how in claim else _shortened(evidence.how)
    known = _numeric(evidence)[: IN_LINE - how.startswith(COUNTED)]  # a count of conclusions is long
    first = [f"{one.name[:1].upper()}{one.name[1:]}: {one.text}." for one in known]
    return " ".join(filter(None, (how, *first)))


def _shortened(how: str) -> str:
    """The first conclusions of a sentence that counts several; the table has the others.
    What a budget left out stays."""
    count, note, rest_of_note = how.partition(NOTE)
    counted = count.removesuffix(".").split("; ")
    others = len(counted) - IN_LINE
    if others < 1 or not how.startswith(COUNTED):
        return how
    rest = "another conclusion" if others == 1 else f"{others} other conclusions"
    return f"{'; '.join(counted[:IN_LINE])}; {rest} in the rest.{note}{rest_of_note}"


def conclusions_of(result: AnalysisResult) -> Table | None:
    """The conclusions that examples or bootstrap samples gave, with the share of each, and those
    that an unclear verdict allows; None where all gave the one above."""
    kinds, support = type(result.verdict).__members__, result.evidence.support
    allowed = [one.name for one in result.evidence.alternatives]
    names = list(dict.fromkeys([*allowed, *(name for name in support if name in kinds)]))
    if not names or names == [result.verdict.name]:
        return None
    rows = [
        (name.replace("_", " "), kinds[name].sentence, percent(support[name]) if name in support else "")
        for name in names
        if name in kinds
    ]
    return Table(("category", "conclusion", "share of examples or samples"), rows)


def _numeric(evidence: Evidence) -> list[Estimate]:
    return [one for one in evidence.estimates if not math.isnan(one.value)]


def numbers_of(result: AnalysisResult) -> Table | None:
    """The estimates with their 95 % intervals; None if there are none. All other numbers are in the
    JSON next to the page."""
    rows = [(one.name, f"{one.value:.4g}", _interval(one)) for one in _numeric(result.evidence)]
    return Table(("quantity", "value", "95 % interval"), rows) if rows else None


def _interval(one: Estimate) -> str:
    if math.isnan(one.low) or math.isnan(one.high):
        return ""
    return CONSTANT if one.is_constant else f"{one.low:.4g} to {one.high:.4g}"
