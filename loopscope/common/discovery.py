"""The shelves: `models/`, `analyses/` and `findings/` are found by name, in a checkout as in an
installed wheel.

In the repository these folders are at the top level. The wheel has their files inside
`loopscope/models`, `loopscope/analyses` and `loopscope/findings`, so that nothing called `models`
can be imported from a user's site-packages. A shelf is a package whose `__path__` is
`folders(...)`, so `loopscope.models.universal` is the file on the shelf in both cases. The name of
a file is the name of its model, analysis or finding: there is no registry.
"""

import importlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from .errors import LoopscopeError, nearest
from .renamed_source import renamed_source

SHELVES = {"models": "architecture", "analyses": "analysis", "findings": "finding"}
"""Each shelf, and the kind of its modules."""

_PACKAGE = Path(__file__).parent.parent


def folders(shelf: str) -> list[str]:
    """The folders of a shelf: in the package, and in a checkout also at the top level."""
    checkout = [str(_PACKAGE.parent / shelf)] if (_PACKAGE.parent / "pyproject.toml").is_file() else []
    return [str(_PACKAGE / shelf), *checkout]


def files(shelf: str, suffix: str) -> dict[str, Path]:
    """The shelf's files that end in `suffix`, by name, in alphabetical order."""
    return _named(path for folder in folders(shelf) for path in Path(folder).glob(f"*{suffix}"))


def modules(shelf: str) -> dict[str, Path]:
    """The shelf's modules by name: a file NAME.py, or a folder NAME with an __init__.py."""
    packages = _named(p.parent for f in folders(shelf) for p in Path(f).glob("*/__init__.py"))
    return dict(sorted((files(shelf, ".py") | packages).items()))


def names(shelf: str) -> list[str]:
    """The names of the shelf's modules."""
    return list(modules(shelf))


def module(shelf: str, name: str) -> ModuleType:
    """Import a module of the shelf by its name. No other code can be imported this way.

    Raises:
        LoopscopeError: the shelf has no module of this name.
    """
    checked_name(SHELVES[shelf], name, names(shelf))
    return importlib.import_module(f"{_PACKAGE.name}.{shelf}.{name}")


def copy(shelf: str, name: str, folder: str | os.PathLike[str], rename: str | None = None) -> Path:
    """Copy a module of the shelf into a folder, to change it there: `universal` (or `universal.py`)
    is one file, `cycles` a folder. Any other file is named with its ending.

    Arguments:
        rename: the name of the copy, which is then one's own: an architecture's recipes train it,
            and their entries have names of their own. None: the same, which no shelf takes beside
            loopscope's.

    Raises:
        LoopscopeError: there is no such module or folder, the file exists already, or the new name
            can't be one.
    """
    checked_name("shelf", shelf, SHELVES)
    on_shelf = {path.name: path for path in modules(shelf).values()}
    if Path(name).suffix not in ("", ".py"):
        on_shelf = {path.name: path for path in files(shelf, Path(name).suffix).values()}
    name = f"{name}.py" if f"{name}.py" in on_shelf else name
    source = on_shelf[checked_name("file", name, on_shelf)]
    if rename is not None:
        _check_new_name(shelf, rename)
        name = f"{rename}{source.suffix}"
    target = Path(folder) / name
    if not target.parent.is_dir():
        raise LoopscopeError(
            f"{folder} must be a folder to copy {name} into, but there is none. Make it first."
        )
    if target.exists():
        raise LoopscopeError(f"{target} exists and would be lost. Move it away, or copy into another folder.")
    if source.is_dir():
        return Path(shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__")))
    if rename is not None and source.suffix == ".py":
        text = renamed_source(source.read_text(encoding="utf-8"), source.stem, rename)
        target.write_text(text, encoding="utf-8")
        return target
    return Path(shutil.copyfile(source, target))


def checked_name(kind: str, name: str, names: Iterable[str]) -> str:
    """`name`, checked to be one of `names`.

    Raises:
        LoopscopeError: it isn't; the error names the most similar one.
    """
    if not isinstance(name, str) or name not in (names := list(names)):
        raise LoopscopeError(f"There is no {kind} called {name!r}. {nearest(str(name), names)}")
    return name


def _check_new_name(shelf: str, name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or name in names(shelf):
        raise LoopscopeError(
            "The new name must be words of small letters and digits with underscores, and not loopscope's "
            f"own, but is {name[:80]!r}. Write e.g. my_{SHELVES[shelf]}."
        )


def _named(paths: Iterable[Path]) -> dict[str, Path]:
    return {path.stem: path for path in sorted(paths, key=lambda path: path.name) if path.name[0] not in "._"}
