"""Replication: a finding with what was measured of it, judged by the rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..common.to_json import to_json
from .finding import SEEDS, Finding
from .measurement import figure, interval_text
from .record import Attempt, Record
from .rule import Holds, Numbers, Status, mean, passes, status


@dataclass(frozen=True)
class Replication:
    """A finding, its record, and whether it holds."""

    name: str
    """Of the finding's file."""
    finding: Finding
    criterion: Holds
    """The criterion as a function of the numbers."""
    record: Record | None
    """None if no seeds were drawn yet."""
    digest: str
    """Of the finding's file as it is now."""
    description: str = ""
    """How it is measured: the docstring of its file."""

    @property
    def numbers(self) -> dict[int, dict[str, float]]:
        """By seed: the numbers measured."""
        return {} if self.record is None else self.record.attempt.numbers

    @property
    def mean(self) -> dict[str, float]:
        """The mean of each number over the seeds."""
        return mean(list(self.numbers.values()))

    @property
    def status(self) -> Status:
        """Whether it holds, as far as it was run, by the first three seeds that were drawn: further
        ones change nothing, nor do those that failed count as if they hadn't been drawn."""
        first = [] if self.record is None else self.record.attempt.seeds[:SEEDS]
        return status(self.criterion, [self.numbers[seed] for seed in first if seed in self.numbers])

    @property
    def criterion_of_mean(self) -> bool:
        """Whether the criterion holds for the mean of the seeds."""
        return passes(self.criterion, self.mean)

    @property
    def passed(self) -> dict[int, bool]:
        """By seed: whether the criterion holds there."""
        return {seed: passes(self.criterion, numbers) for seed, numbers in self.numbers.items()}

    @property
    def recipes_tried(self) -> int:
        """How many recipes and ways to measure were tried in all."""
        return self.finding.recipes_tried + (0 if self.record is None else len(self.record.earlier))

    @property
    def was_run(self) -> bool:
        """Whether this recipe or an earlier one was measured."""
        record = self.record
        return record is not None and any(one.measured for one in (record.attempt, *record.earlier))

    @property
    def is_current(self) -> bool:
        """Whether the finding's file still is the one whose seeds were drawn."""
        return self.record is None or self.record.attempt.digest == self.digest

    @property
    def attempt(self) -> Attempt | None:
        """The commit, the seeds and the numbers of the last recipe."""
        return None if self.record is None else self.record.attempt

    @property
    def date(self) -> str:
        """When the last seed was measured, as YYYY-MM-DD; empty if none was."""
        return "" if self.record is None else max((m.date for m in self.record.attempt.measured), default="")

    @property
    def seconds(self) -> float | None:
        """Processor time of a seed as it was measured, with the trainings that it made itself; None
        if none was."""
        times = [] if self.attempt is None else [m.seconds for m in self.attempt.measured if m.seconds > 0]
        return sum(times) / len(times) if times else None

    @property
    def with_intervals(self) -> dict[str, list[str]]:
        """By number: the value of each seed in words, with its 95 % interval where it has one."""
        stored = {} if self.attempt is None else {m.seed: m.numbers for m in self.attempt.measured}
        return {name: [interval_text(stored[seed].get(name)) for seed in self.numbers] for name in self.mean}

    @property
    def figures(self) -> list[str]:
        """A line for each number: its mean, and the value of each seed."""
        return [figures_of(name, self.numbers) for name in self.mean]

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "name": self.name,
            **to_json(self.finding),
            "status": self.status.value,
            "description": self.description,
            "recipes_tried": self.recipes_tried,
            "is_current": self.is_current,
            "mean": to_json(self.mean),
            "passed": {str(seed): passed for seed, passed in self.passed.items()},
            "record": to_json(self.record),
        }

    def __str__(self) -> str:
        one = self.finding
        lines = [
            f"{one.number}. {one.claim} ({one.source})",
            *([self.description, ""] if self.description else []),
            f"Metric: {one.metric}",
            f"Criterion: {one.criterion}",
            f"Status: {status_text(self)}",
            f"Cost: {cost_text(self)}",
        ]
        lines += ["It counts on fresh trainings only."] if one.fresh_only else []
        lines += ["A reserve, in place of one of the thirty."] if one.reserve else []
        if self.attempt is not None:
            lines.append(
                f"Seeds {', '.join(map(str, self.attempt.seeds))} of commit {self.attempt.commit[:10]}"
            )
        lines += [
            f"  {name}: {figure(self.mean[name])} ({', '.join(values)})"
            for name, values in self.with_intervals.items()
        ]
        lines += ["  In brackets: 95 % intervals."] if has_intervals(self) else []
        lines += [f"  criterion by seed: {', '.join(map(_yes, self.passed.values()))}"] if self.passed else []
        lines += [f"Note: {self.record.note}"] if self.record is not None and self.record.note else []
        return "\n".join(lines)


def status_text(one: Replication) -> str:
    """The status in words, with the number of recipes tried."""
    changed = "" if one.is_current else "; its file has changed since"
    tried = f"; {_recipes(one.recipes_tried)}" if one.was_run else ""
    return f"{one.status}{tried}{changed}"


def figures_of(name: str, numbers: Mapping[int, Numbers]) -> str:
    """One number in words: its mean, and each seed's in the order of the draw."""
    values = [by_name.get(name, float("nan")) for by_name in numbers.values()]
    each = ", ".join(figure(value) for value in values)
    return f"{name}: {figure(sum(values) / len(values))} ({each})"


def cost_text(one: Replication) -> str:
    """The time that a seed takes: as it was measured, else as it is estimated."""
    if (seconds := one.seconds) is None:
        minutes = f"{figure(one.finding.minutes)} minute{'s' * (one.finding.minutes != 1)}"
        return f"about {minutes} of one thread for each seed, an estimate"
    return (
        f"{figure(seconds)} s of processor time for each seed, as measured, without trainings that another "
        "finding had made"
    )


def has_intervals(one: Replication) -> bool:
    """Whether any of its numbers has an interval."""
    return any("[" in value for values in one.with_intervals.values() for value in values)


def _recipes(count: int) -> str:
    return f"{count} recipe{'s' * (count != 1)} tried"


def _yes(passed: bool) -> str:
    return "yes" if passed else "no"
