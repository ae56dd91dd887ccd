"""Files: written whole or not at all. Tensors have a JSON header, in safetensors.

Nothing is ever unpickled.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file as _save_tensors
from torch import Tensor

from .errors import LoopscopeError

_KEY = "loopscope"


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a new file beside `path`, which takes its place once the block has ended well.

    Until then, and for good if the block or the disk fails, `path` stays as it was, and nothing
    is left beside it.

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
    """Remove what writes of `path` left that were killed. Nobody else may be writing it."""
    for part in path.parent.glob(f".{path.name}.*.part"):
        with contextlib.suppress(OSError):
            part.unlink()


def save_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all. Raises as `atomic_write` does."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def save_file(path: str | os.PathLike[str], tensors: dict[str, Tensor], header: dict[str, Any]) -> Path:
    """Write `tensors` and `header` to `path`; a file that was there stays untouched until the new one is whole.

    Arguments:
        tensors: by name, any shape and dtype that safetensors knows.
        header: anything JSON can say; `header["kind"]` tells what the file is.

    Raises:
        LoopscopeError: the disk is full or the folder can't be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part:
            whole = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
            _save_tensors(whole, part, metadata={_KEY: json.dumps(header)})
    except (OSError, SafetensorError) as error:
        raise LoopscopeError(
            f"{path} could not be written ({error}). What was there before is untouched; "
            "free some space or choose another folder, and save again: the object is still in memory."
        ) from error
    return path


def load_file(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the header of a file that loopscope wrote.

    Arguments:
        kind: what the file must be, such as "run" or "checkpoint".

    Raises:
        LoopscopeError: the file is missing, truncated, not ours, or of another kind.
    """
    header = load_header(path, kind)
    with _opened(Path(path)) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118 (not a dict)


def load_header(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Only the header of a file that loopscope wrote, without its tensors. Raises as `load_file` does."""
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
