"""The log of a training: one JSON object per line, each with its optimiser step."""

import json
from pathlib import Path
from typing import Any

from ..common.errors import LoopscopeError
from ..common.files import clear_parts, save_text

LOG = "log.jsonl"
"""The log's file in the folder of a training."""


def append(path: Path, line: dict[str, Any]) -> None:
    """Add a line at the end."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise LoopscopeError(
            f"The log {path} could not be written ({error}). The last checkpoint next to it is "
            "complete: free some space, and run the same command to resume from it."
        ) from error


def read(path: Path) -> list[dict[str, Any]]:
    """The complete lines; a training that was killed may have left an incomplete one at the end."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def cut(path: Path, step: int) -> None:
    """Remove the lines after `step`, since those steps will run again."""
    clear_parts(path)
    lines = [line for line in read(path) if line["step"] <= step]
    try:
        save_text(path, "".join(json.dumps(line) + "\n" for line in lines))
    except OSError as error:
        raise LoopscopeError(
            f"The log {path} could not be written ({error}). Nothing was lost: "
            "free some space or choose another folder."
        ) from error
