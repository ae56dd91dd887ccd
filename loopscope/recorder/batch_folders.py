"""The folder of `record_many`: a folder for each batch, which is one of `record(..., to=)`.

run/begin-batches.safetensors    how all batches are recorded
run/batch-00000/ ...
run/batches.safetensors          at the end: how many there are
"""

from collections.abc import Iterator, Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from ..common.files import load_layout
from ..runs.joined_batches import MOST
from ..runs.run import Run
from ..runs.run_folder import is_finished, open_run_folder
from ..runs.storage import run_content
from ..runs.value_store import RUN

SETTINGS, BATCHES = "begin-batches.safetensors", "batches.safetensors"
BEGUN_BATCHES = "begun run of batches"
"""The kind of the file SETTINGS."""


def batch_folder(folder: Path, number: int) -> Path:
    """The folder of a batch."""
    return folder / f"batch-{number:05d}"


def batch_run(place: Path, output: bool = True) -> Run | None:
    """The run of a batch, without its model; None if it isn't whole.

    Arguments:
        output: False: without its output, which isn't read.

    Raises:
        LoopscopeError: a file is damaged.
    """
    if not is_finished(place):
        return None
    if output:
        tensors, header = open_run_folder(place)
    else:
        tensors, header = open_run_folder(place, without=_of_output(load_layout(place / RUN, "run").header))
        header |= {"output": None}
    return Run(**run_content(str(place), header, tensors))


def batch_runs(folder: Path) -> list[Run]:
    """The runs of the batches that are whole, up to the first that isn't."""
    places = list(takewhile(is_finished, (batch_folder(folder, number) for number in count())))
    output = sum(map(_output_bytes, places)) <= MOST  # else they would be read, and then left out
    runs = (batch_run(place, output) for place in places)
    return [run for run in runs if run is not None]


def _output_bytes(place: Path) -> int:
    """Bytes of a batch's output in its file."""
    layout = load_layout(place / RUN, "run")
    entries = (layout.entries[name] for name in _of_output(layout.header) if name in layout.entries)
    return sum(entry.data_offsets[1] - entry.data_offsets[0] for entry in entries)


def _of_output(header: Mapping[str, Any]) -> set[str]:
    """The names of tensors that belong to a run's output alone."""
    others = {name: part for name, part in header.items() if name != "output"}
    return set(_texts(header.get("output"))) - set(_texts(others))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(part)
