"""Record: what was measured of a finding, as its JSON file holds it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..common.atomic_write import save_text
from ..common.checked_fields import Count, checked_fields
from ..common.errors import LoopscopeError
from ..common.json_text import read_json
from ..common.reading import read_text
from .measurement import is_number, value_of

_REMEDY = "Take another copy, or run it again: loopscope findings run."


@dataclass(frozen=True)
class Measured:
    """The numbers of one seed."""

    seed: Count
    numbers: dict[str, Any]
    """By name: a number or [value, low, high]; None where it wasn't finite."""
    curves: dict[str, Any] = field(default_factory=dict)
    axis: str = "iterations"
    seconds: float = 0.0
    """Processor time of the measurement, with the trainings that it made."""
    date: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """The numbers without their intervals; NaN for None."""
        return {name: value_of(number) for name, number in self.numbers.items()}


@dataclass(frozen=True)
class Attempt:
    """One recipe of a finding, with its seeds and what they gave."""

    commit: str
    """The commit that the recipe was in, from whose hash the seeds follow."""
    digest: str
    """Of the finding's file (`file_digest`)."""
    seeds: list[Count]
    """In the order in which they were drawn."""
    measured: list[Measured] = field(default_factory=list)

    @property
    def numbers(self) -> dict[int, dict[str, float]]:
        """By seed, in the order of the draw, as far as it was measured."""
        by_seed = {one.seed: one.values for one in self.measured}
        return {seed: by_seed[seed] for seed in self.seeds if seed in by_seed}


@dataclass(frozen=True)
class Record:
    """The last attempt at a finding, and those before."""

    number: Count
    attempt: Attempt
    note: str = ""
    """Why it came out so, as far as it is known; a sentence."""
    earlier: list[Attempt] = field(default_factory=list)

    def with_measured(self, measured: Mapping[int, Measured]) -> "Record":
        """The record with the numbers of these seeds in place of those it had."""
        there = {one.seed: one for one in self.attempt.measured} | dict(measured)
        ordered = [there[seed] for seed in self.attempt.seeds if seed in there]
        return replace(self, attempt=replace(self.attempt, measured=ordered))


def read_record(file: Path) -> Record | None:
    """The record in a file; None if there is no file.

    Raises:
        LoopscopeError: the file isn't what loopscope wrote.
    """
    if not file.is_file():
        return None
    values = read_json(read_text(file, "the results of a finding"), str(file))
    record = checked_fields(Record, values, str(file), _REMEDY)
    for attempt in (record.attempt, *record.earlier):
        for name, number in ((n, v) for one in attempt.measured for n, v in one.numbers.items()):
            if not is_number(number):
                raise LoopscopeError(
                    f"{file} must have a number, null or [value, low, high] for {name!r}, not {number!r}. "
                    f"{_REMEDY}"
                )
    return record


def write_record(file: Path, record: Record) -> None:
    """Write a record, whole or not at all.

    Raises:
        LoopscopeError: the file can't be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_text(file, json.dumps(asdict(record), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    except OSError as error:
        raise LoopscopeError(
            f"The results must be written to {file}, but that failed ({error}). Free some space, or choose "
            "another folder."
        ) from error
