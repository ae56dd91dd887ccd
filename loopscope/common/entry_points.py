"""What installed packages offer loopscope by entry points. Nothing is imported to list it."""

import functools
import importlib.util
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from .errors import LoopscopeError

ENTRIES = "loopscope.entries"
"""The group of trained entries: by an entry's name, the package whose folder has its files."""


def offers(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group, by name."""
    return _offers_on(group, tuple(sys.path))


@functools.lru_cache(64)  # reading the metadata of all packages takes milliseconds
def _offers_on(group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    return {one.name: one for one in entry_points(group=group)}


def package_of(offer: EntryPoint) -> str:
    """The name of the package that an entry point is from."""
    return offer.dist.name if offer.dist is not None else offer.module


def offered_entries() -> list[str]:
    """The names of the trained entries that packages offer and that have their weights and their
    card."""
    return sorted(
        name for name in offers(ENTRIES) if all(_file(name, end).is_file() for end in (".safetensors", ".md"))
    )


def offered_file(name: str) -> Path:
    """The weights of an entry that a package offers.

    Raises:
        LoopscopeError: the package has no such file.
    """
    file, offer = _file(name, ".safetensors"), offers(ENTRIES)[name]
    if not file.is_file():
        raise LoopscopeError(
            f"The entry {name!r} comes with the package {package_of(offer)}, which must have its weights, "
            f"but there is no file {file}. Update or uninstall that package."
        )
    return file


def _file(name: str, ending: str) -> Path:
    return _folder(offers(ENTRIES)[name].module) / f"{name}{ending}"


def _folder(module: str) -> Path:
    """The folder of a package, or the one that a module is in, without importing it."""
    first, *rest = module.split(".")
    spec = importlib.util.find_spec(first)
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    if spec is not None and not places and spec.origin:
        return Path(spec.origin).parent
    folders = [Path(place).joinpath(*rest) for place in places]
    return next((folder for folder in folders if folder.is_dir()), Path(*([*places[:1], *rest] or [first])))
