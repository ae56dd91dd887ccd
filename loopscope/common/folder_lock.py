"""One process at a time works in a folder.

The kernel releases the lock when its process ends, however it ends. Machines that share a disk
exclude each other where the file system has locks.
"""

import contextlib
import json
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .atomic_write import is_current, try_lock
from .errors import LoopscopeError, LoopscopeWarning


@contextlib.contextmanager
def exclusive_use(folder: Path, what: str) -> Iterator[None]:
    """Exclude every other `what`, such as "training", from the folder until the block ends.

    A file `.WHAT.lock` says who works there; it is removed at the end.

    Raises:
        LoopscopeError: another one is working there.
    """
    path = folder / f".{what}.lock"
    with _locked(path, what) as file:
        with contextlib.suppress(OSError):  # the disk is full
            file.truncate(0)
            os.write(file.fileno(), json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


def _locked(path: Path, what: str) -> IO[bytes]:
    """The file, open and locked."""
    while True:
        try:
            file = path.open("ab")
        except OSError as error:
            raise LoopscopeError(
                f"{path.parent} must be a folder that can be written, but isn't ({error}). Choose another."
            ) from error
        try:
            is_locked = try_lock(file)
        except OSError as error:
            warnings.warn(
                f"whether another {what} works in {path.parent} can't be known: its file system has no "
                f"locks ({error}). Start no second one there.",
                LoopscopeWarning,
                stacklevel=5,
            )
            return file
        if not is_locked:
            file.close()
            raise LoopscopeError(
                f"{path.parent} must be used by one {what} at a time, but another one is working there"
                f"{_holder(path)}. Wait for its end, stop it, or choose another folder."
            )
        if is_current(file, path):
            return file
        file.close()  # its last holder has just removed it


def _holder(path: Path) -> str:
    """Who has the lock, in words; empty if the file doesn't tell."""
    try:
        who: Any = json.loads(path.read_text(encoding="utf-8")[:1000])
        return f" (process {int(who['pid'])} on {str(who['host'])[:80]})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
