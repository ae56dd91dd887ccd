"""The index of tensors in shards: a line of JSON for each, written after the tensor's bytes.

    {"name": "7", "shard": 0, "offset": 16384, "dtype": "float32", "shape": [64, 17, 64],
     "about": {...}, "checksum": "5e1f09c2"}

What the index names is whole, whenever the process that writes ends: a line without its end is no
line. The checksum is the CRC-32 of the tensor's bytes, xor that of the line without it: a change of
either is noticed when the tensor is read.
"""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .checked_fields import Count, checked_fields
from .errors import LoopscopeError
from .json_text import read_json

INDEX = "index.jsonl"
"""The name of the file."""
REMEDY = "It is damaged or was changed: take another copy, or record it again."
_LAST = len(',"checksum":"00000000"}')


@dataclass(frozen=True)
class Place:
    """Where a tensor is, and what it is."""

    name: str
    shard: Count
    offset: Count
    """Bytes from the beginning of the shard's file."""
    dtype: str
    """As torch calls it, such as "float32"."""
    shape: tuple[Count, ...]
    about: dict[str, Any]
    checksum: str
    """In the file as the module says; here the CRC-32 of the bytes alone, in hexadecimal
    digits."""

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type of its numbers."""
        return getattr(torch, self.dtype)

    @property
    def nbytes(self) -> int:
        """Its length in bytes."""
        return torch.Size(self.shape).numel() * self.torch_dtype.itemsize


def shard_file(folder: Path, number: int) -> Path:
    """The file of a shard."""
    return folder / f"values-{number:05d}.safetensors"


def index_line(place: Place) -> bytes:
    """The line of a tensor."""
    content = {name: value for name, value in vars(place).items() if name != "checksum"}
    body = json.dumps(content, separators=(",", ":"))
    checksum = int(place.checksum, 16) ^ zlib.crc32(body.encode())
    return f'{body[:-1]},"checksum":"{checksum:08x}"}}\n'.encode()


def read_index(folder: Path) -> Iterator[Place]:
    """The places in the order in which they were written, up to the last whole line.

    Raises:
        LoopscopeError: a line isn't one that `index_line` made.
        OSError: the file can't be read.
    """
    path = folder / INDEX
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                yield _place(line, f"{path}, line {number},")


def _place(line: bytes, what: str) -> Place:
    text = line.decode("utf-8", errors="replace").rstrip("\n")
    try:
        stored = checked_fields(Place, read_json(text, what), what, REMEDY)
        checksum = int(stored.checksum, 16) ^ zlib.crc32(f"{text[:-_LAST]}}}".encode())
        if not isinstance(getattr(torch, stored.dtype, None), torch.dtype):
            raise ValueError(f"there is no type {stored.dtype[:40]!r}")
    except ValueError as error:
        raise LoopscopeError(f"{what} must hold what loopscope wrote, but {error}. {REMEDY}") from error
    return Place(**{**vars(stored), "checksum": f"{checksum:08x}"})
