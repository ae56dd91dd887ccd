"""The numbers of a result as a section shows them: in a line under the verdict, and as a table."""

import math

from ..common.analysis_result import AnalysisResult
from ..common.evidence import Evidence
from .section import Table

IN_LINE = 2
"""Estimates in the line under the verdict; all of them are in the table."""


def evidence_line(evidence: Evidence, claim: str = "") -> str:
    """What a verdict rests on: how it was decided, unless the claim above says it already, and the
    first estimates with their intervals."""
    how = "" if evidence.how in claim else evidence.how
    first = [f"{one.name[:1].upper()}{one.name[1:]}: {one.text}." for one in evidence.estimates[:IN_LINE]]
    return " ".join(filter(None, (how, *first)))


def numbers_of(result: AnalysisResult) -> Table | None:
    """The estimates with their 95 % intervals; None if there are none. All other numbers are in the
    JSON next to the page."""
    rows = [
        (one.name, f"{one.value:.4g}", "" if math.isnan(one.low) else f"{one.low:.4g} to {one.high:.4g}")
        for one in result.evidence.estimates
    ]
    return Table(("quantity", "value", "95 % interval"), rows) if rows else None
