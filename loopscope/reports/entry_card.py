"""The card of a checkpoint that has none: what its header holds."""

from pathlib import Path
from typing import Any

from .. import models
from .model_card import section, wrapped


def header_card(entry: str) -> str:
    """What the header of an entry's file says: architecture, task, training and measured numbers,
    in Markdown.

    Arguments:
        entry: a name, or the path of a `.safetensors`.

    Raises:
        LoopscopeError: there is no such entry, or its file is damaged.
    """
    file = models.path(entry)
    header = models.header(entry)
    return wrapped(
        "\n".join([f"# {header['entry']}", "", *_made(entry, header), "", _measured(header), ""])
    ) + (f"\nFrom the header of {file}: there is no {Path(file.name).with_suffix('.md')} next to it.")


def _made(entry: str, header: dict[str, Any]) -> list[str]:
    """How the model is built, what it was trained on, and its size."""
    task = header.get("task")
    recipe = header.get("recipe") or {}
    lines = [f"- **Architecture:** `{header['architecture']}`, {_options(header['config'])}"]
    if task is not None:
        lines.append(f"- **Task:** `{task['name']}`, {_options(task['options'])}")
    lines.append(f"- **Parameters:** {models.parameters(entry):,}")
    if recipe:
        lines.append(f"- **Seed of the training:** {recipe.get('seed', 0)}")
    return lines


def _measured(header: dict[str, Any]) -> str:
    measured = header.get("measured") or {}
    if {"by_iteration", "machine", "seconds"} <= set(measured):
        return section(header, measured)
    return "Nothing was measured when it was saved."


def _options(options: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items()) or "as it is by default"
