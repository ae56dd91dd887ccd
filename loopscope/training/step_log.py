"""The log of a training run: one JSON object per line, told by its optimiser step."""

import json
from pathlib import Path
from typing import Any

from ..common.errors import LoopscopeError
from ..common.files import clear_parts, save_text


def append(path: Path, line: dict[str, Any]) -> None:
    """Add a line at the end."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise LoopscopeError(
            f"The log {path} could not be written ({error}). The last checkpoint beside it is whole: "
            "free some space, and run the same command to go on from it."
        ) from error


def read(path: Path) -> list[dict[str, Any]]:
    """The lines that are whole; a run that was killed may have left half a one at the end."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def cut(path: Path, step: int) -> None:
    """Forget what was logged after `step`: those steps are going to run again."""
    clear_parts(path)
    lines = [line for line in read(path) if line["step"] <= step]
    try:
        save_text(path, "".join(json.dumps(line) + "\n" for line in lines))
    except OSError as error:
        raise LoopscopeError(
            f"The log {path} could not be written ({error}). Nothing was lost: "
            "free some space or choose another folder."
        ) from error
