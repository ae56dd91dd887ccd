"""Digests by which recipes are told apart: of a finding's file, and of a training."""

import ast
import hashlib
import json
from pathlib import Path
from types import ModuleType
from weakref import WeakKeyDictionary

from ..training import Recipe

_IMPORTED: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()


def files_of(file: Path) -> list[Path]:
    """The files of a finding: one, or the Python files of its folder."""
    return sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]


def file_digest(file: Path) -> str:
    """A digest of what a finding's files do: how it trains, measures and judges. Comments,
    docstrings, layout and what describes it (`finding = ...`) don't count, nor does the version of
    Python."""
    return _short("\n".join(_meaning(one.read_text(encoding="utf-8")) for one in files_of(file)))


def imported_digest(module: ModuleType) -> str:
    """The digest that a finding's file had when this was first asked for, right after its import:
    that of the code which runs."""
    return _IMPORTED.setdefault(module, file_digest(Path(str(module.__file__))))


def training_digest(recipe: Recipe) -> str:
    """A digest of a recipe without its seed."""
    values = recipe.to_json()
    del values["seed"]
    return _short(json.dumps(values, sort_keys=True))


def _meaning(source: str) -> str:
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not _is_description(node)]
    return _dumped(tree)


def _dumped(node: object) -> str:
    """A syntax tree as text. `ast.dump` writes other fields in other versions of Python."""
    if isinstance(node, list):
        return f"[{', '.join(_dumped(one) for one in node if not _is_text(one))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
    return f"{type(node).__name__}({', '.join(f'{name}={_dumped(value)}' for name, value in fields)})"


def _is_text(node: object) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _is_description(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(target, ast.Name) and target.id == "finding" for target in targets)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
