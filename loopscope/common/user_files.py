"""A Python file of the user's, imported by its path.

Only a path that the user passes is imported, never one that stands in a file: `stored_name` refuses
a name from a header that could be taken for a path.
"""

import hashlib
import linecache
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import LoopscopeError

_PREFIX = "loopscope_own_"
_imported: dict[Path, tuple[Any, ModuleType]] = {}
"""By path: when the file was written, and its module."""


def is_path(thing: Any) -> bool:
    """Whether this is a path rather than a name: a path object, or a string with a separator or the
    ending `.py` (or `.py:` and the name of a recipe)."""
    if not isinstance(thing, str):
        return isinstance(thing, os.PathLike)
    return thing.endswith(".py") or any(sign in thing for sign in (".py:", "/", "\\", "\0"))


def import_file(path: str | os.PathLike[str]) -> ModuleType:
    """The module of a file NAME.py, or of a folder with an `__init__.py`. A file that has changed
    since is imported again; while it is imported, files next to it can be imported too.

    Raises:
        LoopscopeError: there is no such file, or it can't be imported; the error names the line.
    """
    place = Path(path)
    if "\0" in str(place) or not (place.is_file() or (place / "__init__.py").is_file()):
        raise LoopscopeError(
            f"{str(place)!r} must be a Python file, or a folder with an __init__.py, but there is none. "
            "Correct the path, or write one: loopscope new model NAME."
        )
    place = place.resolve()
    files = sorted(place.glob("*.py")) if place.is_dir() else [place]
    stamp = [(one, one.stat().st_mtime_ns, one.stat().st_size) for one in files]
    if place in _imported and _imported[place][0] == stamp:
        return _imported[place][1]
    module = _executed(place)
    _imported[place] = (stamp, module)
    return module


def file_of(module: str) -> Path | None:
    """The file or folder from which a module was imported by its path; None for any other."""
    return next((path for path, (_, one) in _imported.items() if one.__name__ == module), None)


def stored_name(name: str, what: str) -> str:
    """A name that stands in a file, if it is a name.

    Arguments:
        what: holds it, such as "the header of x.safetensors".

    Raises:
        LoopscopeError: it could be taken for a path, from which code would run.
    """
    if is_path(name):
        raise LoopscopeError(
            f"{what} must name what it needs, but holds the path {name[:80]!r}, and loopscope runs no code "
            "that a file points to. If you trust that file, name it yourself: ls.use(PATH)."
        )
    return name


def _executed(place: Path) -> ModuleType:
    file = place / "__init__.py" if place.is_dir() else place
    digest = hashlib.sha256(str(place).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    name = f"{_PREFIX}{digest}.{place.stem}"
    for old in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
        del sys.modules[old]
    within = [str(place)] if place.is_dir() else None
    spec = spec_from_file_location(name, file, submodule_search_locations=within)
    if not isinstance(spec, ModuleSpec):
        raise LoopscopeError(f"{place} must be a Python file, but its name doesn't end in .py. Rename it.")
    module = module_from_spec(spec)
    sys.modules[name] = module
    linecache.checkcache(str(file))
    try:
        with _neighbours(place.parent):
            # Compiled here, so that no compiled file is left behind, and none of before is taken.
            exec(compile(file.read_bytes(), str(file), "exec"), vars(module))
    except LoopscopeError:
        del sys.modules[name]
        raise
    except Exception as error:
        del sys.modules[name]
        lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == str(file)]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
        where = f" in line {line}" if line else ""
        raise LoopscopeError(
            f"{place} must be a file that can be imported, but raises {type(error).__name__}{where}: "
            f"{error}. Correct it there."
        ) from error
    return module


@contextmanager
def _neighbours(folder: Path) -> Iterator[None]:
    """Inside the with-block, what lies in the folder can be imported, after everything else."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
