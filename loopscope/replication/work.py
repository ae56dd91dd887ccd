"""The work of one seed: its trainings and its measurement, which run in a process of their own or
in this one, and go on where they were stopped."""

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ..common.atomic_write import save_text
from ..common.checked_fields import checked_fields
from ..common.errors import LoopscopeError
from ..common.finding_shelf import FINDINGS
from ..common.json_text import read_json
from ..common.reading import read_text
from ..recorder.provenance import versions
from ..shelves.use import use
from .digest import file_digest, imported_digest
from .measurement import measurement_of
from .record import Measured
from .trainings import Trainings

TRAININGS, MEASURED = "trainings", "measured"
"""Folders of what is made by a run, in its folder."""


@dataclass(frozen=True)
class Work:
    """One seed of a finding."""

    name: str
    seed: int
    folder: str
    fresh: bool = False
    """Whether a measurement that is there is made again."""
    sources: Sequence[Any] = ()
    """What the user put on the shelves."""
    digest: str = ""
    """Of the recipe whose seeds were drawn."""


def measure_seed(work: Work) -> Measured:
    """Train and measure one seed, or read what was measured of this recipe before.

    Raises:
        LoopscopeError: a training or the measurement failed, or the file isn't the one whose seeds
            were drawn.
    """
    for source in work.sources:
        use(source)
    module = FINDINGS.get(work.name)
    digest = imported_digest(module)
    if {digest, file_digest(Path(module.__file__))} != {work.digest or digest}:
        raise LoopscopeError(
            f"A seed must be measured by the file whose seeds were drawn, but {module.__file__} was changed "
            "meanwhile. Commit the change, draw its seeds, and run it in a new process."
        )
    file = Path(work.folder) / MEASURED / f"{work.name}-{digest}-{work.seed}.json"
    if file.is_file() and not work.fresh:
        values = read_json(read_text(file, "the measurement of a finding"), str(file))
        return checked_fields(Measured, values, str(file), "Run it again with fresh=True (--fresh).")
    recipes = getattr(module, "trainings", dict)()
    trained = Trainings(recipes, work.seed, Path(work.folder).resolve() / TRAININGS)
    begun = time.process_time()
    with _one_thread():
        measurement = measurement_of(module.measure(work.seed, trained), work.name)
    measured = Measured(
        work.seed,
        **measurement.to_json(),
        seconds=round(time.process_time() - begun, 1),
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        versions=versions(),
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_text(file, json.dumps(asdict(measured), allow_nan=False))
    except OSError as error:
        raise LoopscopeError(
            f"{file} could not be written ({error}). Free some space, and run the same command again."
        ) from error
    return measured


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread, as in the trainings, and this process's generator as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)
