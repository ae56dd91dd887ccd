"""Files of tensors: safetensors with a JSON header, written whole or not at all, and checked when
they are read. Nothing is ever unpickled.

What is guaranteed: a file that `save_file` wrote is read as it was written, or there is an error
that says that it is damaged. Its header is checked when it is opened. The tensors of files up to
CHECKED_AT_ONCE are copied into memory and checked then too; what happens to the file later changes
nothing. Larger files are mapped into memory, so that opening doesn't read everything: each tensor
is checked when it is first read (`load_file` checks them all), and the file must stay as it is
while it is used. Files of older versions have no digest: what is missing or misshapen in them is
noticed, a changed number is not.

Matrix products at an address that is no multiple of 64 bytes use other instructions, and differ in
the last digits. So every tensor begins at a multiple of 64 bytes in the file. safetensors allows no
gaps: they are filled with tensors named `padding/...`.
"""

import io
import os
import zlib
from collections.abc import Collection, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .atomic_write import atomic_write, remove_litter
from .errors import LoopscopeError
from .file_layout import DTYPES, FORMAT, PADDING, Layout, as_view, damaged, read_layout, write_layout
from .json_text import write_json
from .lazy_tensors import LazyTensors
from .reading import checked_path, reason, regular_file

ALIGNMENT = 64
"""Bytes: PyTorch allocates tensors at multiples of this."""
CHECKED_AT_ONCE = 256_000_000
"""Bytes of the largest file that is read and checked when it is opened, in about 0.2 s."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def save_file(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> Path:
    """Write `tensors` and `header` to `path`. An existing file is replaced only by a complete one.

    Arguments:
        tensors: by name, of any shape and type.
        header: values for JSON; `header["kind"]` is the kind of the file. What JSON doesn't have,
            such as a number of numpy, becomes what `to_json` makes of it.

    Raises:
        LoopscopeError: the disk is full, the folder can't be written, the header is no JSON, or a
            tensor has no numbers that could be written (such as one on the device "meta").
    """
    path = checked_path(path, "a file to be written")
    text = write_json({**header, "format": FORMAT}, f"the header of {path}")
    entries, stored = _entries(tensors)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part, part.open("wb") as file:
            file.write(write_layout(text, entries, stored, ALIGNMENT))
            for name, tensor in tensors.items():
                stored[name]["checksum"] = _write(file, name, tensor)
            file.seek(0)  # the same again, of the same length, now with the checksums
            file.write(write_layout(text, entries, stored, ALIGNMENT))
    except OSError as error:
        raise LoopscopeError(
            f"{path} could not be written ({error}). What was there before is untouched; "
            "free some space or choose another folder, and save again: the object is still in memory."
        ) from error
    return path


class StoredTensors(LazyTensors):
    """The tensors of a file, by name. Each is checked before it is first given.

    Reading one raises LoopscopeError if its bytes aren't those that were written.
    """

    def __init__(self, path: Path, layout: Layout, tensors: Mapping[str, Tensor]) -> None:
        self._path, self._tensors = path, dict(tensors)
        self._shapes, self._unchecked = layout.shapes, dict(layout.tensors or {})
        self._read: dict[str, int] = {}
        """How often a tensor had been written into when it was first given."""
        self._views = {name: one.view[0] for name, one in (layout.tensors or {}).items() if one.view}

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def dtype(self, name: str) -> torch.dtype:
        """The type of a tensor's numbers.

        Raises:
            LoopscopeError: there is no such type.
        """
        view = self._views.get(name)
        dtype = self._tensors[name].dtype if view is None else getattr(torch, view, None)
        if not isinstance(dtype, torch.dtype):
            raise damaged(self._path, f"'{name}' is of a type {str(view)[:40]!r} that doesn't exist")
        return dtype

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        if name in self._unchecked:
            stored = self._unchecked[name]
            if checksum(tensor) != stored.checksum:
                raise damaged(self._path, f"the numbers of '{name}' have changed")
            if stored.view is not None:
                try:
                    tensor = as_view(tensor, stored.view)
                except (ValueError, RuntimeError) as error:
                    raise damaged(self._path, f"'{name}' can't be had ({error})") from error
            self._tensors[name] = tensor = aligned(tensor)
            del self._unchecked[name]
        self._read.setdefault(name, _version(tensor))
        return tensor

    def written(self) -> Hashable:
        now = {name: _version(self._tensors[name]) for name in self._read}
        return tuple((name, version) for name, version in now.items() if version != self._read[name])

    @property
    def place(self) -> Path:
        return Path(os.path.abspath(self._path))

    def __contains__(self, name: object) -> bool:
        return name in self._tensors  # without reading it

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def open_file(
    path: str | os.PathLike[str], kind: str, *others: str, without: Collection[str] = ()
) -> tuple[StoredTensors, dict[str, Any]]:
    """The tensors and the header of a file that loopscope wrote, of this kind or of one of
    `others`. A file larger than CHECKED_AT_ONCE is mapped into memory, and each tensor checked when
    it is first read; else as `load_file`.

    Arguments:
        without: names of tensors that aren't needed, and not read.
    """
    file, layout = _opened(path, kind, *others)
    tensors: dict[str, Tensor] = {}
    try:
        is_small = file.stat().st_size <= CHECKED_AT_ONCE
        with safe_open(file, framework="pt") as content:
            tensors = {name: content.get_tensor(name) for name in layout.entries if name not in without}
            if is_small:
                tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
        raise LoopscopeError(
            f"{file} must be a whole safetensors file, but can't be read as one ({error}): "
            "it is truncated or something else. Make it again or take another copy."
        ) from error
    if layout.tensors is None:
        tensors = {name: aligned(tensor) for name, tensor in tensors.items()}
    stored = StoredTensors(file, layout, tensors)
    if is_small:
        list(stored.values())
    return stored, layout.header


def load_file(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the header of a file that loopscope wrote, and check all of it.

    Arguments:
        kind: the kind that the file must be of, such as "run" or "checkpoint".

    Raises:
        LoopscopeError: the file is missing, damaged, not of loopscope, or of another kind.
    """
    tensors, header = open_file(path, kind)
    return dict(tensors), header


def load_header(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Only the header of a file that loopscope wrote, without its tensors. Raises as `load_file`
    does."""
    return load_layout(path, kind).header


def load_layout(path: str | os.PathLike[str], kind: str, *others: str) -> Layout:
    """The header, and the place of each tensor in the file, without the tensors. Raises as
    `load_file` does."""
    return _opened(path, kind, *others)[1]


def load_shapes(path: str | os.PathLike[str], kind: str) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a file, by name, without the tensors. Raises as `load_file`
    does."""
    return load_layout(path, kind).shapes


def checksum(tensor: Tensor) -> str:
    """CRC-32 of a tensor's bytes, in hexadecimal digits."""
    return f"{zlib.crc32(bytes_of(tensor)):08x}"


def aligned(tensor: Tensor) -> Tensor:
    """The tensor itself if it begins at a multiple of ALIGNMENT in memory, else a copy that
    does."""
    return tensor.clone() if tensor.data_ptr() % ALIGNMENT else tensor


def _opened(path: Any, kind: str, *others: str) -> tuple[Path, Layout]:
    """The path, and what the beginning of the file says. Litter next to it is removed."""
    path = checked_path(path, f"a {kind}")
    remove_litter(path.parent)
    path = regular_file(path, f"a file that holds a {kind}")
    try:
        return path, read_layout(path, kind, *others)
    except OSError as error:
        raise LoopscopeError(f"{path} must hold a {kind}, but {reason(error)}. Check the path.") from error


def _entries(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Where each tensor and each gap will lie, and what the metadata says about each tensor, with
    placeholders for the checksums."""
    entries: dict[str, Any] = {}
    stored: dict[str, dict[str, Any]] = {}
    end = 0

    def place(name: str, dtype: str, shape: list[int], size: int) -> None:
        nonlocal end
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size

    for name, tensor in tensors.items():
        if name == "__metadata__" or name != name.encode("utf-8", "replace").decode("utf-8"):
            raise LoopscopeError(f"a tensor in a file can't be called {name!r}. Give it another name.")
        stored[name] = {"checksum": "0" * 8}
        dtype, shape = _NAMES.get(tensor.dtype), list(tensor.shape)
        if dtype is None:
            stored[name]["view"] = [str(tensor.dtype).removeprefix("torch."), shape]
            dtype, shape = "U8", [tensor.numel() * tensor.itemsize]
        place(name, dtype, shape, tensor.numel() * tensor.itemsize)
        if gap := -end % ALIGNMENT:
            filler = f"{PADDING}{end}"
            while filler in tensors:
                filler += "/"
            place(filler, "U8", [gap], gap)
    return entries, stored


def _write(file: io.BufferedWriter, name: str, tensor: Tensor) -> str:
    """Write a tensor's bytes, and zeros up to the next multiple of ALIGNMENT. Returns the
    checksum."""
    content = bytes_of(tensor, f"'{name}'", "Convert it before saving.")
    file.write(content)
    file.write(bytes(-len(content) % ALIGNMENT))
    return f"{zlib.crc32(content):08x}"


def _version(tensor: Tensor) -> int:
    """How often a tensor was written into, as far as PyTorch counts it."""
    return 0 if tensor.is_inference() else tensor._version


def bytes_of(
    tensor: Tensor, name: str = "this one", advice: str = "Make it dense: tensor.to_dense()."
) -> memoryview:
    """A dense tensor's bytes, in the order of its indices: its own memory where that is possible.

    Arguments:
        name, advice: of the tensor, and what to do, as the error says it.

    Raises:
        LoopscopeError: it has no bytes, as it is sparse or on the device "meta".
    """
    try:
        values = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        return values.reshape(-1).view(torch.uint8).numpy().data
    except (RuntimeError, NotImplementedError, TypeError, AttributeError) as error:
        raise LoopscopeError(
            f"a tensor must be dense and have numbers to be stored, but {name} is {tensor.layout} of "
            f"{tensor.dtype} on {tensor.device} ({error}). {advice}"
        ) from error
