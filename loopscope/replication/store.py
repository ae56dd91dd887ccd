"""Where the results of a finding lie, and the replication that they make."""

import inspect
from pathlib import Path
from types import ModuleType

from ..common import discovery
from ..common.finding_shelf import FINDINGS
from .digest import file_digest, imported_digest
from .record import Record, read_record, write_record
from .replication import Replication

RUNS = Path("runs/findings")
"""Where trainings and measurements are kept, unless another folder is named."""
RESULTS = "results"
"""The folder of results, next to the findings; with a wheel, which isn't written into, in RUNS."""


def file_of(name: str) -> Path:
    """The file of a finding."""
    module: ModuleType = FINDINGS.get(name)
    return Path(str(module.__file__)).resolve()


def is_installed(name: str) -> bool:
    """Whether a finding is part of an installed package, whose files aren't written."""
    in_checkout = len(discovery.folders("findings")) > 1
    return name not in FINDINGS.placed and not (name in FINDINGS.ours() and in_checkout)


def load(name: str) -> Replication:
    """A finding with its results, as far as there are any.

    Raises:
        LoopscopeError: the file of the results isn't what loopscope wrote.
    """
    module = FINDINGS.get(name)
    imported_digest(module)
    record = read_record(_written(name)) or read_record(_shipped(name))
    return Replication(
        name,
        module.finding,
        module.holds,
        record,
        file_digest(file_of(name)),
        inspect.cleandoc(module.__doc__ or ""),
    )


def save(name: str, record: Record) -> Path:
    """Write the results of a finding. Returns their file."""
    write_record(_written(name), record)
    return _written(name)


def _written(name: str) -> Path:
    return RUNS / RESULTS / f"{name}.json" if is_installed(name) else _shipped(name)


def _shipped(name: str) -> Path:
    return file_of(name).parent / RESULTS / f"{name}.json"
