"""Files that a user names, looked at before they are read: a path that is none, a folder, a device
or a text in another encoding gets its sentence, and nothing is waited for."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

from .errors import LoopscopeError

MOST_TEXT = 200_000_000
"""Bytes of the largest text that is read."""
_REASONS = {
    errno.ENOENT: "there is none",
    errno.ENOTDIR: "a part of the path before its last is no folder",
    errno.ELOOP: "its symbolic links lead round in a circle",
    errno.EACCES: "it may not be read",
    errno.EPERM: "it may not be read",
    errno.ENAMETOOLONG: "the name is too long",
}


def checked_path(path: Any, what: str = "a file") -> Path:
    """`path` as a Path.

    Arguments:
        what: the thing that the path is to lead to, for the sentence.

    Raises:
        LoopscopeError: it is neither text nor a path, or no file system can have it.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise LoopscopeError(
            f"{what} must be named by a path, as text or pathlib.Path, but got {_short(path)} "
            f"({type(path).__name__}). Pass its path."
        )
    if "\0" in text or not text:
        raise LoopscopeError(
            f"{what} must be named by a path of one character or more, none of them null, but got "
            f"{_short(text)}. Pass its path."
        )
    return Path(text)


def regular_file(path: Any, what: str = "a file") -> Path:
    """`path` as a Path that leads to a regular file, so that opening it neither fails nor waits.

    Raises:
        LoopscopeError: there is none, or it is a folder, a device, a pipe or a socket, or it may
            not be read.
    """
    path = checked_path(path, what)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise LoopscopeError(f"{path} must be a file, but there is none. Check the path.") from error
    except (OSError, ValueError) as error:
        raise LoopscopeError(f"{path} must be {what}, but {reason(error)}. Check the path.") from error
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "device, a pipe or a socket"
        raise LoopscopeError(f"{path} must be {what}, but is a {kind}. Check the path.")
    if not os.access(path, os.R_OK):
        raise LoopscopeError(
            f"{path} must be {what}, but it may not be read. Change its permissions (chmod u+r), or take "
            "another copy."
        )
    return path


def read_text(path: Any, what: str, most: int = MOST_TEXT) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Arguments:
        most: bytes of the largest file that is read.

    Raises:
        LoopscopeError: as `regular_file` does, or the file is too large, or no text in UTF-8.
    """
    path = regular_file(path, what)
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise LoopscopeError(
                f"{path} must be {what} of at most {most:,} bytes, but is larger. Check the path."
            )
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise LoopscopeError(f"{path} must be {what}, but {reason(error)}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise LoopscopeError(
            f"{path} must be {what} in UTF-8, but isn't ({error.reason} at byte {error.start}). Save it in "
            "that encoding, or take another copy."
        ) from error


def reason(error: Exception) -> str:
    """Why a file can't be had, in words."""
    known = _REASONS.get(error.errno or 0) if isinstance(error, OSError) else None
    return known or f"it can't be read ({getattr(error, 'strerror', None) or error})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 100 else f"{text[:90]}..."
