"""A shelf: what can be had by name, from three places.

ours         loopscope's own
placed       what the user passed, as an object or as the path of a file
packages     what installed packages offer by an entry point of the shelf's group

An entry point is imported when its name is first used, never to list it. loopscope's own names
can't be taken: a file or an object of such a name is refused, a package's is ignored.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

from .discovery import checked_name
from .entry_points import offers, package_of
from .errors import LoopscopeError
from .user_files import file_of, import_file, is_path

Read = Callable[[Any, str | None], tuple[str, Any]]
"""From a module, class, instance or function, and the name of its file or entry point, its name on
the shelf and what stands there; raises LoopscopeError if something is missing in it."""


@dataclass(frozen=True)
class Placed:
    """What a user put on a shelf."""

    item: Any
    source: str
    """Where it is from: the path of a file, or "module:name"."""


class Shelf:
    """The architectures, tasks, analyses or adapters that can be had by name."""

    def __init__(
        self,
        kind: str,
        group: str,
        *,
        ours: Callable[[], Iterable[str]],
        load: Callable[[str], Any],
        holds: Callable[[Any], bool],
        read: Read,
    ) -> None:
        """
        Arguments:
            kind: what stands on it, such as "architecture".
            group: of the entry points, such as "loopscope.models".
            ours: loopscope's own names.
            load: what one of these names stands for.
            holds: whether a module, a class, an instance or a function is something for this shelf.
            read: see `Read`.
        """
        self.kind, self.group = kind, group
        self.ours, self._load, self.holds, self._read = ours, load, holds, read
        self.placed: dict[str, Placed] = {}
        self._packages: dict[EntryPoint, Any] = {}

    def names(self) -> list[str]:
        """All names: ours first, then the others in alphabetical order. Nothing is imported."""
        ours = list(self.ours())
        return [*ours, *sorted({*self.placed, *offers(self.group)} - set(ours))]

    def packages(self) -> dict[str, str]:
        """The names that installed packages offer, each with its package."""
        ours = set(self.ours())
        return {name: package_of(one) for name, one in offers(self.group).items() if name not in ours}

    def get(self, name: str) -> Any:
        """What a name stands for.

        Raises:
            LoopscopeError: there is nothing of that name, or its package can't be imported.
        """
        if name in self.placed:
            return self.placed[name].item
        if name in self.ours():
            return self._load(name)
        if name in (there := offers(self.group)):
            return self._offered(name, there[name])
        checked_name(self.kind, name, self.names())
        raise AssertionError("a name of the shelf is in one of its three places")

    def place(self, thing: Any) -> str:
        """The name of a thing, which is on the shelf from now on, in this process. A name stands
        for itself.

        Arguments:
            thing: a name, the path of a file or a folder, or an object.

        Raises:
            LoopscopeError: it is nothing for this shelf, can't be imported, or its name is taken.
        """
        if isinstance(thing, str) and not is_path(thing):
            return checked_name(self.kind, thing, self.names())
        if not is_path(thing):
            name, item = self._read(thing, None)
            return self._put(name, item, source_of(thing))
        path = Path(thing)
        if path.stem in self.ours() and _is_file_of(self._load(path.stem), path):
            return path.stem
        module = import_file(path)
        name, item = self._read(module, path.resolve().stem)
        return self._put(name, item, str(path.resolve()))

    def reference(self, name: str | None) -> Any:
        """What another process can `place`: the path or the object of what the user put here; None
        for all that is there by its name."""
        there = self.placed.get(name or "")
        return None if there is None else restored(there.source)

    def check_stored(self, name: str, what: str) -> None:
        """Check that a name which a file holds is on the shelf.

        Raises:
            LoopscopeError: it isn't, and its code isn't looked for.
        """
        if name not in self.names():
            raise LoopscopeError(
                f"{what} needs the {self.kind} {name!r}, which is on no shelf. loopscope runs no code that "
                f'you didn\'t name: name the file that it is in, with ls.use("{name.replace("-", "_")}.py") '
                "before, or on the command line with --use."
            )

    def _put(self, name: str, item: Any, source: str) -> str:
        if name in self.ours():
            if self._load(name) is item:
                return name
            raise LoopscopeError(
                f"The {self.kind} from {source} is called {name!r}, but that is loopscope's own. Choose "
                f"another name, such as {'my-' if '-' in name else 'my_'}{name}."
            )
        there = self.placed.get(name)
        if there is not None and there.source != source:
            raise LoopscopeError(
                f"The {self.kind} from {source} is called {name!r}, but that name stands for the one from "
                f"{there.source} in this process. Rename one of them."
            )
        self.placed[name] = Placed(item, source)
        return name

    def _offered(self, name: str, offer: EntryPoint) -> Any:
        if offer not in self._packages:
            try:
                thing = offer.load()
            except Exception as error:  # a package may raise anything
                raise LoopscopeError(
                    f"The {self.kind} {name!r} comes with the package {package_of(offer)}, but its "
                    f"{offer.value} can't be imported: {type(error).__name__}: {error}. Update or uninstall "
                    "that package."
                ) from error
            try:
                called, self._packages[offer] = self._read(thing, name)
            except LoopscopeError as error:
                raise LoopscopeError(f"In the package {package_of(offer)}: {error}") from error
            if called != name:
                raise LoopscopeError(
                    f"The package {package_of(offer)} must offer the {self.kind} {called!r} by that name, "
                    f"but its entry point in {self.group} is called {name!r}. Rename the entry point."
                )
        return self._packages[offer]


def source_of(thing: Any) -> str:
    """Where an object is from: the path of its file if it was imported by that, else
    "module:name"."""
    if isinstance(thing, ModuleType):
        module, name = thing.__name__, ""
    else:
        owner = thing if hasattr(thing, "__qualname__") else type(thing)
        module, name = owner.__module__, owner.__qualname__
    path = file_of(module)
    if path is None and name and module != "__main__":  # the same file, imported in the usual way
        path = getattr(sys.modules.get(module), "__file__", None) if "." not in module else None
    return f"{module}:{name}" if path is None else str(Path(path).resolve())


def restored(source: str) -> Any:
    """What `source_of` described, for another process: a path, or the object itself. None if it
    can't be had there."""
    if not (colon := source.rpartition(":"))[1] or Path(source).exists():
        return source
    module, _, name = colon
    if module == "__main__":
        return None
    thing: Any = importlib.import_module(module)
    for part in name.split(".") if name else ():
        thing = getattr(thing, part)
    return thing


def _is_file_of(item: Any, path: Path) -> bool:
    """Whether a module of ours was imported from this file or folder."""
    file = getattr(item, "__file__", None)
    return bool(file) and path.exists() and Path(str(file)).resolve() in (
        path.resolve(), (path / "__init__.py").resolve(),
    )  # fmt: skip


def last_word(name: str) -> str:
    """The last part of a module's name."""
    return name.rpartition(".")[2]


def source_name(thing: Any) -> str:
    """A thing in an error: the file that it is in, or itself."""
    if isinstance(thing, ModuleType):
        return os.path.relpath(str(thing.__file__)) if getattr(thing, "__file__", None) else thing.__name__
    text = repr(thing)
    return text if len(text) < 80 and not inspect.isfunction(thing) else getattr(thing, "__name__", text[:80])
