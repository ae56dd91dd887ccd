"""The log of a training: one JSON object per line, each with its optimiser step."""

import json
from pathlib import Path
from typing import Any

from ..common.atomic_write import save_text
from ..common.errors import LoopscopeError
from ..common.json_text import read_json
from ..common.reading import read_text

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
    """The complete lines; a training that was killed may have left an incomplete one at the end.

    Raises:
        LoopscopeError: it is no text in UTF-8, or may not be read.
    """
    lines = []
    for text in read_text(path, "a log").split("\n") if path.exists() else []:
        try:
            line = read_json(text, "a line")
        except LoopscopeError:
            break
        if not isinstance(line, dict) or type(line.get("step")) is not int:
            break
        lines.append(line)
    return lines


def cut(path: Path, step: int) -> None:
    """Remove the lines after `step`, since those steps will run again."""
    lines = [line for line in read(path) if line["step"] <= step]
    try:
        save_text(path, "".join(json.dumps(line) + "\n" for line in lines))
    except OSError as error:
        raise LoopscopeError(
            f"The log {path} could not be written ({error}). Nothing was lost: "
            "free some space or choose another folder."
        ) from error
