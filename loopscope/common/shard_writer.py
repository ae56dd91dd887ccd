"""ShardWriter: tensors that are written to a folder as they come, in any number, and can be read
while more of them come.

They lie one after the other in files of some 128 MB, `values-00000.safetensors` and so on, beside
an index that says where (`shard_index`). A shard whose writer has gone on to the next is a complete
safetensors file, which other programs read; the last one of a writer that died lacks its header,
but not what the index names.
"""

import json
import os
import struct
import zlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor

from .errors import LoopscopeError
from .file_layout import DTYPES, PADDING
from .files import ALIGNMENT, bytes_of
from .freed_memory import return_freed_memory
from .shard_index import INDEX, Place, index_line, shard_file

SHARD = 128_000_000
"""Bytes after which the next shard begins."""
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
"""A file of bytes; Windows would write the ends of lines otherwise."""
AT_ONCE = 1 << 30
"""Bytes that are given to the system in one write."""
_HEADERS = (1 << 14, 1 << 18)
"""Bytes that are left free for the header of the first shard, and of those that follow."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class ShardWriter:
    """Writes the tensors of one folder."""

    def __init__(self, folder: Path) -> None:
        """`folder`: exists, and has no shards.

        Raises:
            OSError: it can't be written.
        """
        self.folder = folder
        self.places: dict[str, Place] = {}
        """What has been written, by name."""
        self._index: int | None = os.open(folder / INDEX, _FLAGS | os.O_APPEND, 0o666)
        self._index_bytes = self._index_checksum = 0
        self._shard: int | None = None
        self._number = -1
        self._entries: dict[str, Any] = {}
        self._start = self._end = self._text = 0
        self._disk = ThreadPoolExecutor(1, "loopscope-disk")
        """Sends complete shards to the disk while the next is written: else all would wait for the
        end."""
        self._sent: list[Future[None]] = []

    def write(self, name: str, tensor: Tensor, about: Mapping[str, Any]) -> Place:
        """Write a tensor, and then its line of the index.

        Arguments:
            about: anything for JSON.

        Raises:
            LoopscopeError: the disk is full, or the tensor has no bytes.
        """
        content = bytes_of(tensor, str(dict(about)), "Record it without to=.")
        try:
            entry = self._placed(name, tensor, about)
            dtype = str(tensor.dtype).removeprefix("torch.")
            checksum = f"{zlib.crc32(content):08x}"
            place = Place(name, self._number, self._end, dtype, tuple(tensor.shape), dict(about), checksum)
            line = index_line(place)
            assert self._shard is not None and self._index is not None
            _write(self._shard, content, self._end)
            _write(self._index, memoryview(line))
        except OSError as error:
            raise LoopscopeError(
                f"{self.folder} could not take another {content.nbytes / 1e6:.1f} MB ({error}). What was "
                "written until then can be read: ls.load_run(folder). Free some space, or choose another "
                "folder."
            ) from error
        self._entries |= entry
        self._end += content.nbytes + -content.nbytes % ALIGNMENT
        self._index_bytes += len(line)
        self._index_checksum = zlib.crc32(line, self._index_checksum)
        self.places[name] = place
        return place

    def close(self) -> dict[str, Any]:
        """Complete the last shard, and wait until all is on the disk.

        Returns:
            length and checksum of the index, for whoever wants to know that it is whole.

        Raises:
            OSError: the disk is full.
        """
        self._finish_shard()
        assert self._index is not None
        os.fsync(self._index)
        for sent in self._sent:
            sent.result()
        index, self._index = self._index, None
        os.close(index)
        self._disk.shutdown()
        _synchronised(self.folder)
        return {"bytes": self._index_bytes, "checksum": f"{self._index_checksum:08x}"}

    def abandon(self) -> None:
        """Close the files as they are."""
        self._disk.shutdown(cancel_futures=True)
        for file in (self._index, self._shard):
            if file is not None:
                os.close(file)
        self._index = self._shard = None

    def _placed(self, name: str, tensor: Tensor, about: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of a tensor in the header of its shard, which is opened if need be."""
        size = tensor.numel() * tensor.itemsize
        text = 250 + len(json.dumps(name)) + len(str(tuple(tensor.shape)))  # of its entries, at most
        full = (self._end + size > SHARD and self._entries) or self._text + text > self._start - 1024
        if self._shard is None or full:
            self._finish_shard()
            self._open_shard(2 * text + 1024)
        self._text += text
        dtype, shape = _NAMES.get(tensor.dtype), list(tensor.shape)
        if dtype is None:
            dtype, shape = "U8", [size]
        begin = self._end - self._start
        end, gap = begin + size, -size % ALIGNMENT
        entries: dict[str, Any] = {name: {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}}
        if gap:
            filler = {"dtype": "U8", "shape": [gap], "data_offsets": [end, end + gap]}
            entries[f"{PADDING}{end}"] = filler
        return entries

    def _open_shard(self, least: int) -> None:
        self._number += 1
        path = shard_file(self.folder, self._number)
        self._shard = os.open(path, _FLAGS, 0o666)
        self._entries = {}
        room = max(least, _HEADERS[min(self._number, 1)])
        self._start = self._end = room + -room % ALIGNMENT
        self._text = 0

    def _finish_shard(self) -> None:
        """Write the header of the open shard, and close it."""
        if self._shard is None:
            return
        header = json.dumps({"__metadata__": {"format": "pt"}, **self._entries}).encode()
        length = self._start - 8
        os.ftruncate(self._shard, self._end)
        content = struct.pack("<Q", length) + header.ljust(length)
        _write(self._shard, memoryview(content), 0)
        shard, self._shard = self._shard, None
        os.close(shard)
        return_freed_memory()
        self._sent.append(self._disk.submit(_synchronised, shard_file(self.folder, self._number)))


def _write(file: int, content: memoryview, offset: int | None = None) -> None:
    """All of it: the kernel may take less at once, and macOS refuses 2 GB."""
    if offset is not None:  # Windows has no os.pwrite, and nobody else writes here
        os.lseek(file, offset, os.SEEK_SET)
    done = 0
    while done < content.nbytes:
        done += os.write(file, content[done : done + AT_ONCE])


def _synchronised(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
