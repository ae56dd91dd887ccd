"""Files that are written whole or not at all: safetensors with a JSON header, and text.

Nothing is ever unpickled.

A file is mapped into memory, and its pages are read when they are used. Matrix products at an
address that is no multiple of 64 bytes use other instructions, and differ in the last digits. So
every tensor begins at a multiple of 64 bytes. safetensors allows no gaps: they are filled with
tensors named `padding/...`.
"""

import contextlib
import io
import json
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import LoopscopeError

ALIGNMENT = 64
"""Bytes: PyTorch allocates tensors at multiples of this."""
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
"""The types of tensors by their names in safetensors."""
_KEY, _PADDING = "loopscope", "padding/"
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a new file next to `path`, which replaces it once the block has ended without an error.

    If the block or the disk fails, `path` stays as it was, and the new file is removed.

    Raises:
        OSError: the disk is full, or the folder can't be written.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb") as file:  # on the disk before it takes the old file's name
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask())
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def clear_parts(path: Path) -> None:
    """Remove the temporary files of interrupted writes of `path`. No other process may be writing
    it."""
    for part in path.parent.glob(f".{path.name}.*.part"):
        with contextlib.suppress(OSError):
            part.unlink()


def save_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all. Raises as `atomic_write` does."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def save_file(path: str | os.PathLike[str], tensors: dict[str, Tensor], header: dict[str, Any]) -> Path:
    """Write `tensors` and `header` to `path`. An existing file is replaced only by a complete one.

    Arguments:
        tensors: by name, any shape, of a type in DTYPES.
        header: values for JSON; `header["kind"]` is the kind of the file.

    Raises:
        LoopscopeError: the disk is full, the folder can't be written, or a tensor is of another
            type.
    """
    path = Path(path)
    layout = _layout(tensors, {_KEY: json.dumps(header)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part, part.open("wb") as file:
            file.write(layout)
            for tensor in tensors.values():
                _write(file, tensor)
    except OSError as error:
        raise LoopscopeError(
            f"{path} could not be written ({error}). What was there before is untouched; "
            "free some space or choose another folder, and save again: the object is still in memory."
        ) from error
    return path


def load_file(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the header of a file that loopscope wrote.

    The tensors are mapped into memory, and read from the disk when they are used. Those that aren't
    aligned, as in files of older versions, are copied, so that computations give the same digits as
    before saving.

    Arguments:
        kind: the kind that the file must be of, such as "run" or "checkpoint".

    Raises:
        LoopscopeError: the file is missing, truncated, not of loopscope, or of another kind.
    """
    header = load_header(path, kind)
    with _opened(Path(path)) as file:
        return {name: aligned(file.get_tensor(name)) for name in _names(file)}, header


def load_header(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Only the header of a file that loopscope wrote, without its tensors. Raises as `load_file`
    does."""
    path = Path(path)
    with _opened(path) as file:
        text = (file.metadata() or {}).get(_KEY)
    try:
        header = json.loads(text) if text is not None else None
    except json.JSONDecodeError:
        header = None
    if not isinstance(header, dict):
        raise LoopscopeError(
            f"{path} is a safetensors file that loopscope did not write (no '{_KEY}' header). "
            f"A {kind} file is made by loopscope's own save."
        )
    if header.get("kind") != kind:
        raise LoopscopeError(
            f"{path} must hold a {kind}, but holds a {header.get('kind')!r}. Pass the right file."
        )
    return header


def load_shapes(path: str | os.PathLike[str]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a file, by name, without the tensors. Raises as `load_file`
    does."""
    with _opened(Path(path)) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in _names(file)}


def aligned(tensor: Tensor) -> Tensor:
    """The tensor itself if it begins at a multiple of ALIGNMENT in memory, else a copy that
    does."""
    return tensor.clone() if tensor.data_ptr() % ALIGNMENT else tensor


def _layout(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """The beginning of a file: the length of its header, and the header with each tensor's
    offset."""
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0

    def place(name: str, dtype: str, shape: list[int], size: int) -> None:
        nonlocal end
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size

    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise LoopscopeError(
                f"a file's tensors must be of the types {', '.join(DTYPES)}, but '{name}' is {tensor.dtype}. "
                "Convert it before saving."
            )
        place(name, _NAMES[tensor.dtype], list(tensor.shape), tensor.nbytes)
        if gap := -end % ALIGNMENT:
            place(f"{_PADDING}{end}", "U8", [gap], gap)
    header = json.dumps(entries).encode()
    header += b" " * (-(len(header) + 8) % ALIGNMENT)
    return struct.pack("<Q", len(header)) + header


def _write(file: io.BufferedWriter, tensor: Tensor) -> None:
    """A tensor's bytes, and zeros up to the next multiple of ALIGNMENT."""
    values = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    file.write(values.reshape(-1).view(torch.uint8).numpy().data)
    file.write(bytes(-values.nbytes % ALIGNMENT))


def _names(file: Any) -> Iterator[str]:
    return (name for name in file.keys() if not name.startswith(_PADDING))  # noqa: SIM118 (not a dict)


@contextlib.contextmanager
def _opened(path: Path):
    if not path.is_file():
        raise LoopscopeError(f"{path} must be a file, but there is none. Check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise LoopscopeError(
            f"{path} must be a whole safetensors file, but can't be read as one ({error}): "
            "it is truncated or something else. Make it again or take another copy."
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
