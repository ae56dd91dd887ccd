"""ShardedTensors: the tensors that a ShardWriter wrote, or is still writing, each of them mapped
into memory when it is first read."""

import os
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import LoopscopeError
from .file_layout import damaged
from .files import checksum
from .lazy_tensors import LazyTensors
from .reading import reason
from .shard_index import Place, shard_file


class ShardedTensors(LazyTensors):
    """The tensors of a folder, by name. What is read of them is the file's own memory: it takes no
    room of the process's own, and writing to it changes no file. Each is checked when it is first
    read.

    Reading one raises LoopscopeError if its bytes aren't those that were written.
    """

    def __init__(self, folder: Path, places: Mapping[str, Place]) -> None:
        """`places`: may grow."""
        self.folder, self._places = Path(os.path.abspath(folder)), places
        self._shards: dict[int, Tensor] = {}
        """The bytes of each shard."""
        self._values: dict[str, Tensor] = {}
        """What has been read and checked. Each counts by itself how often it is written into, and
        what is given of it counts there."""

    def __getstate__(self) -> dict[str, Any]:
        """What is copied or pickled: where the tensors are, not what has been read of them."""
        return {**vars(self), "_shards": {}, "_values": {}, "_places": dict(self._places)}

    def shape(self, name: str) -> tuple[int, ...]:
        return self._places[name].shape

    def dtype(self, name: str) -> torch.dtype:
        return self._places[name].torch_dtype

    def written(self) -> Hashable:
        return tuple((name, n) for name, value in self._values.items() if (n := value._version))

    @property
    def place(self) -> Path:
        return self.folder

    def __getitem__(self, name: str) -> Tensor:
        place = self._places[name]
        if not place.nbytes:
            return torch.empty(place.shape, dtype=place.torch_dtype)
        if name not in self._values:
            self._values[name] = self._checked(place)
        return self._values[name].detach()

    def _checked(self, place: Place) -> Tensor:
        """A value's part of its shard, if its bytes are those that were written."""
        dtype, path = place.torch_dtype, shard_file(self.folder, place.shard)
        if place.offset % dtype.itemsize:
            raise damaged(path, f"{_described(place)} can't begin there")
        content = self._mapped(place, path)[place.offset : place.offset + place.nbytes]
        with torch.inference_mode(False):  # whose tensors don't count how often they are written into
            tensor = content.view(dtype).view(place.shape).data  # with a counter of its own
        if checksum(tensor) != place.checksum:
            raise damaged(path, f"the numbers of {_described(place)} have changed")
        return tensor

    def _mapped(self, place: Place, path: Path) -> Tensor:
        """The bytes of the whole shard; anew if it has grown."""
        end = place.offset + place.nbytes
        shard = self._shards.get(place.shard)
        if shard is None or shard.nbytes < end:
            try:
                size = path.stat().st_size
                if size < end:
                    raise damaged(path, f"it ends before {_described(place)}")
                shard = _map(path, size)
            except (OSError, RuntimeError) as error:
                why = reason(error) if isinstance(error, OSError) else str(error)
                raise LoopscopeError(
                    f"{path} must hold {_described(place)}, but {why}. Take another copy of the folder."
                ) from error
            self._shards[place.shard] = shard
        return shard

    def __contains__(self, name: object) -> bool:
        return name in self._places  # without reading it

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _map(path: Path, size: int) -> Tensor:
    """A file's bytes as memory that may be written to without changing the file."""
    with torch.inference_mode(False):
        return torch.from_file(os.fspath(path), shared=False, size=size, dtype=torch.uint8)


def _described(place: Place) -> str:
    """A tensor, as the folder's writer speaks of it."""
    site, index = place.about.get("site"), place.about.get("index") or []
    where = f" at iteration {index[0]}" if index else ""
    return f"'{place.name}'" if site is None else f"'{site}'{where}"
