"""The section about one finding in docs/findings.md, in Markdown."""

import re
import textwrap

from .measurement import figure
from .replication import Replication, cost_text

WIDTH = 100
"""Columns of prose."""
_ID = re.compile(r"\barXiv (\d{4}\.\d{4,5})")


def section(one: Replication) -> list[str]:
    """Lines: how it was measured, what was fixed, and the numbers of each seed."""
    finding, attempt = one.finding, one.attempt
    lines = [f"## {finding.number}: {one.name.replace('_', ' ')}", ""]
    for paragraph in filter(None, one.description.split("\n\n")):
        lines += [*wrapped(linked(paragraph)), ""]
    rows = [
        ("claim", finding.claim),
        ("source", linked(str(finding.source))),
        ("file", f"`findings/{one.name}.py`"),
        ("metric", finding.metric),
        ("criterion", finding.criterion),
        ("status", one.status.value),
        ("cost", cost_text(one)),
    ]
    rows += [("counts on", "fresh trainings only")] if finding.fresh_only else []
    rows += [] if one.record is None or not one.record.note else [("note", one.record.note)]
    lines += ["| | |", "|---|---|", *(f"| {name} | {cell(text)} |" for name, text in rows)]
    return lines if attempt is None or not attempt.measured else [*lines, "", *_numbers(one)]


def _numbers(one: Replication) -> list[str]:
    header = ["number", "mean", *(f"seed {seed}" for seed in one.numbers)]
    lines = [f"| {' | '.join(header)} |", f"|---|{'--:|' * (len(header) - 1)}"]
    for name, values in one.with_intervals.items():
        lines.append(f"| {cell(name)} | {' | '.join([figure(one.mean[name]), *values])} |")
    passed = " | ".join("yes" if passed else "no" for passed in one.passed.values())
    lines.append(f"| criterion holds | {'yes' if one.criterion_of_mean else 'no'} | {passed} |")
    if one.record is not None and one.record.earlier:
        lines += ["", f"Earlier recipes: {len(one.record.earlier)}, whose numbers are in its results."]
    return lines


def linked(text: str) -> str:
    """A text on one line whose arXiv ids are links."""
    return _ID.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", " ".join(text.split()))


def cell(text: str) -> str:
    """A text as a table of Markdown has it."""
    return text.replace("|", "\\|")


def wrapped(text: str) -> list[str]:
    """Lines of a paragraph; links stay whole."""
    joined = re.sub(r"\[([^\]]*)\]\(", lambda link: link[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(joined, WIDTH, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]
