"""The page of the benchmarks: tables of ratios, with the machine and the versions they hold for."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path

from loopscope.common.text import plural

from .interleaved import Times

PEERS = ("torch", "nnsight", "torchlens", "transformer-lens", "scikit-learn", "scipy", "numpy")

_HEAD = """\
# Benchmarks

`make bench` writes this page. Ways to the same thing are timed in turns in one process, so ratios
can be compared and times can't: other machines, and other hours of this one, have other times. A
ratio is the median over the rounds of processor times, with the quartiles in parentheses; the one
by the clock on the wall stands beside it. Everything runs on one thread.

{machine}
"""


@dataclass(frozen=True)
class Value:
    """One measured value."""

    section: str
    what: str
    value: float
    goal: str


@dataclass(frozen=True)
class Comparison:
    """Several ways to the same thing."""

    section: str
    what: str
    times: Mapping[str, Times]
    goal: str

    @property
    def ratios(self) -> dict[str, float]:
        """Of each way's processor time to the first way's: medians."""
        first = next(iter(self.times.values()))
        return {name: statistics.median(times.ratios(first)) for name, times in self.times.items()}

    @property
    def text(self) -> str:
        ratios = ", ".join(f"{name} {ratio:.3g}" for name, ratio in self.ratios.items())
        return f"{self.what}: {ratios}" + (f" ({self.goal})" if self.goal else "")


def page(rows: Sequence[Comparison | Value], failed: int = 0) -> str:
    """The page as Markdown.

    Arguments:
        failed: how many benchmarks failed, and so aren't on it.
    """
    parts = [_HEAD.format(machine=_machine())]
    if failed:
        parts.append(f"**{plural(failed, 'benchmark')} failed, and this page lacks their numbers.**\n")
    for section, group in groupby(rows, key=lambda row: row.section):
        title, _, text = section.strip().partition("\n\n")
        parts.append(f"## {' '.join(title.split()).rstrip('.')}\n")
        if text:
            parts.append(text.strip() + "\n")
        members = list(group)
        parts += [_table(row) for row in members if isinstance(row, Comparison)]
        values = [row for row in members if isinstance(row, Value)]
        if values:
            parts.append(_values(values))
    return "\n".join(parts)


def _table(row: Comparison) -> str:
    first = next(iter(row.times.values()))
    name = next(iter(row.times))
    lines = [
        f"**{row.what}**" + (f" ({row.goal})" if row.goal else "") + "\n",
        f"| | processor time, ms | ratio to {name} (quartiles) | by the wall |",
        "|---|--:|--:|--:|",
    ]
    for way, times in row.times.items():
        ratios = sorted(times.ratios(first))
        low, _, high = statistics.quantiles(ratios, n=4)
        lines.append(
            f"| {way} | {1000 * statistics.median(times.processor):.4g} | "
            f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f}) | {times.wall_ratio(first):.3f} |"
        )
    return "\n".join(lines) + "\n"


def _values(rows: Sequence[Value]) -> str:
    lines = ["| measured | value | goal |", "|---|--:|---|"]
    lines += [f"| {row.what} | {row.value:.3g} | {row.goal.removeprefix('goal ')} |" for row in rows]
    return "\n".join(lines) + "\n"


def _machine() -> str:
    versions = []
    for name in PEERS:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"{name} not installed")
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return (
        f"Taken on {date.today():%Y-%m-%d}: {processor}, {plural(os.cpu_count() or 1, 'core')}, "
        f"{platform.system()}, Python {platform.python_version()}; {', '.join(versions)}. The load of the "
        f"last 15 minutes was {os.getloadavg()[2]:.2f}, of which the benchmarks are 1."
    )
