"""Files that are written whole or not at all.

A file is written under another name, `.loopscope-....part` in the same folder, which then becomes
its own. While it is written its process holds a lock on it, which the kernel releases when the
process ends, however it ends. So the next process that writes or reads in the folder knows which
of them are litter, and removes those alone. Between machines that share a disk this holds where
the file system has locks; where it has none, nothing is removed.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl: Any = None

from .errors import LoopscopeError
from .reading import checked_path

_PREFIX, _SUFFIX = ".loopscope-", ".part"
_PART = re.compile(r"\.(loopscope-|.+\.(safetensors|jsonl?|html|md)\.)[a-z0-9_]{8}\.part")
"""Names of unfinished files, of this version and of older ones."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a new file next to `path`, which replaces it once the block has ended without an error.

    If the block or the disk fails, `path` stays as it was, and the new file is removed. What
    writers that died have left in the folder is removed too.

    Raises:
        LoopscopeError: `path` is there and no regular file, such as a folder or a device.
        OSError: the disk is full, or the folder can't be written.
    """
    path = checked_path(path)
    if path.exists() and not path.is_file():
        raise LoopscopeError(
            f"{path} must be a file to be replaced by a new one, but is a folder, a device or a pipe. "
            "Choose another path."
        )
    remove_litter(path.parent)
    file, part = _new_part(path.parent)
    with file:
        try:
            yield part
            with part.open("rb") as written:  # on the disk before it takes the old file's name
                os.fsync(written.fileno())
            part.chmod(0o666 & ~_umask())
            os.replace(part, path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink()


def remove_litter(folder: Path) -> None:
    """Remove the unfinished files of writers that have died. Those of living writers stay."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError), open(entry.path, "rb") as file:
                    if try_lock(file):
                        os.unlink(entry.path)


def try_lock(file: IO[Any]) -> bool:
    """Take the lock of an open file, if no one else has it. It is released when the file is closed
    or the process ends.

    Raises:
        OSError: the file system has no locks.
    """
    if fcntl is None:
        raise OSError("this system has no locks of this kind")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_current(file: IO[Any], path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def save_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all. Raises as `atomic_write` does."""
    content = text.encode("utf-8", errors="backslashreplace")  # a lone surrogate
    with atomic_write(path) as part:
        part.write_bytes(content)


def _new_part(folder: Path) -> tuple[IO[bytes], Path]:
    """A new file in the folder, open and locked."""
    while True:
        handle, name = tempfile.mkstemp(prefix=_PREFIX, suffix=_SUFFIX, dir=folder)
        file, part = os.fdopen(handle, "wb"), Path(name)
        try:
            is_locked = try_lock(file)
        except OSError:
            return file, part  # without locks no one takes it for litter
        if is_locked and is_current(file, part):
            return file, part
        file.close()  # between its making and its lock another process took it for litter


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
