"""The option --use: files of the user's own, put on the shelves before the command runs."""

from pathlib import Path
from typing import Annotated

import typer

from ..common import user_files


def _put_on_shelves(files: list[str] | None) -> list[str] | None:
    if files:
        from ..shelves import use

        for file in files:
            use(file if user_files.is_path(file) else Path(file))
    return files


Use = Annotated[
    list[str] | None,
    typer.Option(
        "--use",
        metavar="FILE",
        callback=_put_on_shelves,
        help="A file with your own architecture, task, analysis, adapter or finding. Repeat it for several.",
    ),
]
