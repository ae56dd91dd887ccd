"""The files of a run that was recorded to disk, as they are read."""

import os
import zlib
from collections.abc import Collection, Hashable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.file_layout import damaged
from ..common.files import StoredTensors, open_file
from ..common.lazy_tensors import LazyTensors
from ..common.reading import reason
from ..common.shard_index import INDEX, Place, read_index
from ..common.shard_reader import ShardedTensors
from ..core.lazy_values import LazyValues
from ..core.states import States
from .value_store import BEGIN, BEGUN, RUN

if TYPE_CHECKING:
    from .run import Run


class FolderTensors(LazyTensors):
    """The tensors of a run's file, and the values beside it, by name."""

    def __init__(self, file: StoredTensors, values: ShardedTensors) -> None:
        self._file, self.values_on_disk = file, values

    def _source(self, name: object) -> StoredTensors | ShardedTensors:
        return self._file if name in self._file else self.values_on_disk

    def shape(self, name: str) -> tuple[int, ...]:
        return self._source(name).shape(name)

    def dtype(self, name: str) -> torch.dtype:
        return self._source(name).dtype(name)

    def written(self) -> Hashable:
        return self._file.written(), self.values_on_disk.written()

    @property
    def place(self) -> Path:
        return self.values_on_disk.place

    def __getitem__(self, name: str) -> Tensor:
        return self._source(name)[name]

    def __contains__(self, name: object) -> bool:
        return name in self._file or name in self.values_on_disk  # without reading it

    def __iter__(self) -> Iterator[str]:
        yield from self._file
        yield from self.values_on_disk

    def __len__(self) -> int:
        return len(self._file) + len(self.values_on_disk)


def places_of(run: "Run") -> set[Path]:
    """The files and folders that a run's values are read from."""
    sites = (run[name] for name in run.names)
    values = (site.by_index for site in sites if isinstance(site, States))
    sources = (source for one in values if isinstance(one, LazyValues) for source in one.sources())
    return {source.place.resolve() for source in sources if isinstance(source, LazyTensors)}


def open_run_folder(folder: Path, without: Collection[str] = ()) -> tuple[FolderTensors, dict[str, Any]]:
    """The tensors and the header of a run that is finished.

    Arguments:
        without: names of tensors of the file that aren't needed, and not read.

    Raises:
        LoopscopeError: a file is missing or damaged.
    """
    file, header = open_file(folder / RUN, "run", without=without)
    index = header.get("index")
    if not isinstance(index, dict):
        raise damaged(folder / RUN, "it doesn't say what is in the folder")
    _check_index(folder / INDEX, index)
    return FolderTensors(file, ShardedTensors(folder, dict(_places(folder)))), header


def open_begun_folder(folder: Path) -> tuple[StoredTensors, dict[str, Any], list[Place]]:
    """What was known before the pass of a run that isn't finished, and the places of its values in
    the order in which they were written.

    Raises:
        LoopscopeError: the folder has no run, or a file is damaged.
    """
    if not (folder / BEGIN).is_file():
        raise LoopscopeError(
            f"{folder} must be a folder that ls.record(..., to=) wrote, but has no {RUN} and no {BEGIN}. "
            "Check the path."
        )
    file, header = open_file(folder / BEGIN, BEGUN)
    return file, header, [place for _, place in _places(folder)]


def is_finished(folder: Path) -> bool:
    """Whether a folder has a whole run."""
    return (folder / RUN).is_file()


def _places(folder: Path) -> Iterator[tuple[str, Place]]:
    try:
        for place in read_index(folder):
            yield place.name, place
    except OSError as error:
        raise LoopscopeError(
            f"{folder / INDEX} must say where the values are, but {reason(error)}. Take another copy of the "
            "folder."
        ) from error


def _check_index(path: Path, stored: Mapping[str, Any]) -> None:
    try:
        size, checksum = os.stat(path).st_size, 0
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                checksum = zlib.crc32(part, checksum)
    except OSError as error:
        raise LoopscopeError(
            f"{path} must say where the values are, but {reason(error)}. Take another copy of the folder."
        ) from error
    if stored.get("bytes") != size or stored.get("checksum") != f"{checksum:08x}":
        raise damaged(path, "its bytes have changed")
