"""A package whose public names are imported from its files when they are first used.

if TYPE_CHECKING:
    from .period import Period as Period
    from .period import period as period
else:
    lazy_names(__name__)

The package's own source says where each name is, for type checkers and for this module alike, so
that a file of the package can be imported without all the others.
"""

import ast
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


class _LazyPackage(ModuleType):
    """A package in which a public name stands for what its file has under it, also where the file
    has the same name: importing a file puts it into its package."""

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return sorted(_places(self.__name__))
        if name not in _places(self.__name__):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        file, name_there = _places(self.__name__)[name]
        value = getattr(import_module(f".{file}", self.__name__), name_there)
        super().__setattr__(name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        is_file = isinstance(value, ModuleType) and value.__name__ == f"{self.__name__}.{name}"
        if not is_file or name not in _places(self.__name__):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *_places(self.__name__)})


def lazy_names(package: str) -> None:
    """Import the names that a package lists under `if TYPE_CHECKING` when they are first used."""
    sys.modules[package].__class__ = _LazyPackage


@cache
def _places(package: str) -> Mapping[str, tuple[str, str]]:
    """By public name of a package: the file that it is in, and its name there."""
    tree = ast.parse(Path(str(sys.modules[package].__file__)).read_text(encoding="utf-8"))
    blocks = [
        node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {
        alias.asname or alias.name: (str(node.module), alias.name) for node in imports for alias in node.names
    }
