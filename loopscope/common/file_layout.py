"""The beginning of a safetensors file that loopscope wrote: its header, with a digest.

    {"__metadata__": {"loopscope": header, "tensors": {name: its checksum}, "digest": of both},
     name: {"dtype", "shape", "data_offsets"}, ...}

The digest is SHA-256 of the header, and of the name, type, shape and checksum of every tensor. A
checksum is the CRC-32 of a tensor's bytes, which is fast (some 3 GB/s) and notices every change of
up to 32 bits next to each other, and all but one in four thousand million of the others. Both are
against damage; against someone who forges a file there is no key.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checked_fields import Count, checked_fields
from .errors import LoopscopeError
from .json_text import read_json

FORMAT = 2
"""Of the files that have a digest; older ones say nothing."""
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
"""The types of tensors by their names in safetensors."""
KEY, PADDING = "loopscope", "padding/"
_MOST_HEADER = 100_000_000
"""Bytes; safetensors reads no more."""
_PICKLED = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How files of torch.save (zip archives) and of pickle begin."""
_DAMAGED = "It is damaged or was changed: take another copy, or make it again."


@dataclass(frozen=True)
class Entry:
    """A tensor's place in a file."""

    dtype: str
    shape: tuple[Count, ...]
    data_offsets: tuple[Count, Count]
    """Begin and end, in bytes after the header."""


@dataclass(frozen=True)
class StoredTensor:
    """What the metadata says about a tensor."""

    checksum: str
    """CRC-32 of its bytes, in hexadecimal digits."""
    view: tuple[str, tuple[Count, ...]] | None = None
    """Type and shape of a tensor that is stored as bytes, since safetensors lacks its type."""


@dataclass(frozen=True)
class Layout:
    """What the beginning of a file says."""

    header: dict[str, Any]
    entries: dict[str, Entry]
    """Of the tensors, by name, without the gaps."""
    tensors: dict[str, StoredTensor] | None
    """None in a file of an older version, which has no checksums."""
    start: int
    """Where the first tensor begins, in bytes."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, by name."""
        views = {name: one.view[1] for name, one in (self.tensors or {}).items() if one.view}
        return {name: views.get(name, entry.shape) for name, entry in self.entries.items()}


def write_layout(header: str, entries: Mapping[str, Any], tensors: Mapping[str, Any], multiple: int) -> bytes:
    """The beginning of a file.

    Arguments:
        header: as JSON.
        entries: dtype, shape and data_offsets of every tensor and gap.
        tensors: checksum and view of every tensor.
        multiple: its length is a multiple of so many bytes.
    """
    text = json.dumps(tensors)
    metadata = {KEY: header, "tensors": text, "digest": _digest(header, text, entries)}
    content = json.dumps({"__metadata__": metadata, **entries}).encode()
    content += b" " * (-(len(content) + 8) % multiple)
    return struct.pack("<Q", len(content)) + content


def read_layout(path: Path, kind: str, *others: str) -> Layout:
    """The beginning of a file, with its digest checked.

    Raises:
        LoopscopeError: the file is damaged, not of loopscope, or of another kind than these.
    """
    entries, start = _entries(path)
    metadata = entries.pop("__metadata__", None)
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    header = read_json(text, f"the header of {path}") if isinstance(text, str) else None
    if not isinstance(metadata, dict) or not isinstance(text, str) or not isinstance(header, dict):
        raise LoopscopeError(
            f"{path} is a safetensors file that loopscope did not write (no '{KEY}' header). "
            f"A {kind} file is made by loopscope's own save."
        )
    tensors = _checked_tensors(path, text, header, metadata, entries)
    if header.get("kind") not in (kind, *others):
        received = str(header.get("kind"))[:80]
        raise LoopscopeError(f"{path} must hold a {kind}, but holds a {received!r}. Pass the right file.")
    names = entries if tensors is None else tensors
    parsed = {
        name: checked_fields(Entry, entry, f"{path}, tensor {name[:80]!r},", _DAMAGED)
        for name, entry in entries.items()
        if name in names and (tensors is not None or not name.startswith(PADDING))
    }
    header.pop("format", None)
    return Layout(header, parsed, tensors, start)


def damaged(path: Path, why: str) -> LoopscopeError:
    """The error of a file whose content isn't what was written."""
    return LoopscopeError(f"{path} must hold what was written to it, but {why}. {_DAMAGED}")


def _entries(path: Path) -> tuple[dict[str, Any], int]:
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        content = file.read(length) if length <= _MOST_HEADER else b""
    try:
        if not length or len(content) < length:
            raise LoopscopeError("its header is incomplete")
        entries = read_json(content.decode("utf-8"), "its header")
        if not isinstance(entries, dict):
            raise LoopscopeError("its header is no object")
    except (LoopscopeError, UnicodeDecodeError) as error:
        if start.startswith(_PICKLED):
            raise LoopscopeError(
                f"{path} must be a safetensors file, but is one that torch.save or pickle wrote. "
                "Reading such a file can run code, so it isn't read. Save its tensors with safetensors."
            ) from None
        raise LoopscopeError(
            f"{path} must be a whole safetensors file, but can't be read as one ({error}): "
            "it is truncated or something else. Make it again or take another copy."
        ) from error
    return entries, 8 + length


def _checked_tensors(
    path: Path, text: str, header: dict[str, Any], metadata: dict[str, Any], entries: Mapping[str, Any]
) -> dict[str, StoredTensor] | None:
    """The checksums, once the digest is known to be right; None in an older file."""
    if "format" not in header and "digest" not in metadata:
        return None
    if header.get("format", FORMAT) != FORMAT:
        raise LoopscopeError(
            f"{path} must be of format {FORMAT}, which this version of loopscope reads, but is of "
            f"{str(header['format'])[:20]}. Install a newer version, or save it again with this one."
        )
    checksums = metadata.get("tensors")
    is_right = isinstance(checksums, str) and metadata.get("digest") == _digest(text, checksums, entries)
    tensors = read_json(str(checksums), f"the checksums of {path}") if is_right else None
    if not isinstance(tensors, dict) or not tensors.keys() <= entries.keys():
        raise damaged(path, "its header and the digest in it don't fit")
    what = f"{path}, checksums,"
    return {name: checked_fields(StoredTensor, one, what, _DAMAGED) for name, one in tensors.items()}


def _digest(header: str, tensors: str, entries: Mapping[str, Any]) -> str:
    """Of the header and of every tensor, gaps included, but not of where it lies: a file that
    another program has copied tensor by tensor is still right."""
    digest = hashlib.sha256(f"{header}\n{tensors}\n".encode())
    for name, entry in sorted(entries.items()):
        place = [name, entry.get("dtype"), entry.get("shape")] if isinstance(entry, dict) else [name]
        digest.update(json.dumps(place).encode())
    return digest.hexdigest()


def as_view(tensor: Tensor, view: tuple[str, Iterable[int]]) -> Tensor:
    """Bytes as the tensor that they are.

    Raises:
        ValueError: there is no such type.
        RuntimeError: the bytes are too many or too few.
    """
    dtype = getattr(torch, view[0], None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"there is no type {view[0][:40]!r}")
    return tensor.view(dtype).reshape(tuple(view[1]))
