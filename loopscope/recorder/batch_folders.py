"""The folder of `record_many`: a folder for each batch, which is one of `record(..., to=)`.

run/begin-batches.safetensors    how all batches are recorded
run/batch-00000/ ...
run/batches.safetensors          at the end: how many there are
"""

from pathlib import Path

from ..runs.run import Run
from ..runs.run_folder import is_finished, open_run_folder
from ..runs.storage import run_content

SETTINGS, BATCHES = "begin-batches.safetensors", "batches.safetensors"
BEGUN_BATCHES = "begun run of batches"
"""The kind of the file SETTINGS."""


def batch_folder(folder: Path, number: int) -> Path:
    """The folder of a batch."""
    return folder / f"batch-{number:05d}"


def batch_run(place: Path) -> Run | None:
    """The run of a batch, without its model; None if it isn't whole.

    Raises:
        LoopscopeError: a file is damaged.
    """
    if not is_finished(place):
        return None
    tensors, header = open_run_folder(place)
    return Run(**run_content(str(place), header, tensors))


def batch_runs(folder: Path) -> list[Run]:
    """The runs of the batches that are whole, up to the first that isn't."""
    runs: list[Run] = []
    while (run := batch_run(batch_folder(folder, len(runs)))) is not None:
        runs.append(run)
    return runs
