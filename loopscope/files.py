"""Files: tensors with a JSON header, in safetensors. Written whole or not at all; nothing is ever unpickled."""

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file as _save_tensors
from torch import Tensor

from .errors import LoopscopeError

_KEY = "loopscope"


def save_file(path: str | os.PathLike[str], tensors: dict[str, Tensor], header: dict[str, Any]) -> Path:
    """Write `tensors` and `header` to `path`; a file that was there stays untouched until the new one is whole.

    Arguments:
        tensors: by name, any shape and dtype that safetensors knows.
        header: anything JSON can say; `header["kind"]` tells what the file is.

    Raises:
        LoopscopeError: the disk is full or the folder can't be written.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        whole = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
        _save_tensors(whole, temporary, metadata={_KEY: json.dumps(header)})
        with open(temporary, "rb") as written:  # on the disk before it takes the old file's name
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise LoopscopeError(
            f"{path} could not be written ({error}). What was there before is untouched; "
            "free some space or choose another folder, and save again: the object is still in memory."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
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
