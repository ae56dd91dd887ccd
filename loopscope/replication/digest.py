"""Digests by which recipes are told apart: of a finding's file, and of a training."""

import ast
import hashlib
import json
from pathlib import Path

from ..training import Recipe


def file_digest(file: Path) -> str:
    """A digest of what a finding's file does: how it trains, measures and judges. Comments,
    docstrings, layout and what describes it (`finding = ...`) don't count."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not _is_description(node)]
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _is_text(one)]  # pyright: ignore[reportAttributeAccessIssue]
    return _short(ast.dump(tree))


def training_digest(recipe: Recipe) -> str:
    """A digest of a recipe without its seed."""
    values = recipe.to_json()
    del values["seed"]
    return _short(json.dumps(values, sort_keys=True))


def _is_text(node: ast.stmt) -> bool:
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
