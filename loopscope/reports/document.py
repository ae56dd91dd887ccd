"""Report: one page with its numbers and its figures."""

import html
import json as json_text
import os
import tempfile
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..common.arguments import FilePath
from ..common.atomic_write import save_text
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..common.notebook import paragraph
from ..plots.panels import Panel
from .figure_files import Format, save_figures


@dataclass(frozen=True)
class Report:
    """One self-contained HTML page, with its numbers and figures."""

    html: str
    title: str
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Every number of the page as JSON values: subject, versions, origin, the results of the
    analyses by name, the numbers of the other sections, and what was left out. Fractions have seven
    significant digits, as many as float32 has; NaN is None."""
    panels: Sequence[tuple[str, Panel]] = field(default=(), repr=False)
    """The figures in the order of the page, each with the name of its section."""
    _places: list[Path] = field(default_factory=list, repr=False, compare=False)

    @guarded
    def save(self, path: FilePath, json: bool = True) -> Path:
        """Write the page, completely or not at all, and its numbers next to it in a file of the
        same name that ends in .json. Returns the page's path.

        Arguments:
            json: False to write the page alone.

        Raises:
            LoopscopeError: a file can't be written.
        """
        path = Path(path)
        numbers = path.with_suffix(".json") if path.name else path
        if json and self.data and numbers == path:
            raise LoopscopeError(
                f"the page must not be in the file of its numbers, but is to be written to {path}. End its "
                "name in .html, or pass json=False."
            )
        try:
            save_text(path, self.html)
            if json and self.data:
                tight = {"ensure_ascii": False, "separators": (",", ":")}
                save_text(numbers, json_text.dumps(self.data, allow_nan=False, **tight))
        except OSError as error:
            raise LoopscopeError(
                f"the report must be written to {path}, but that failed: {error.strerror or error}. "
                "An existing file is unchanged. Free some space, or choose another place."
            ) from error
        self._places.append(path)
        return path

    @guarded
    def save_figures(self, folder: FilePath, format: Format = "svg") -> list[Path]:
        """Write every figure of the page as a file into a folder, which is made if there is none.
        Returns their paths, in the order of the page.

        Raises:
            LoopscopeError: kaleido or a browser for it isn't installed (extra: figures), or a file
                can't be written.
        """
        return save_figures(self.panels, Path(folder), format)

    def open(self) -> Path:
        """Show the page in the browser, from a temporary file, whose path is returned."""
        path = self.save(Path(tempfile.mkdtemp(prefix="loopscope-")) / "report.html")
        webbrowser.open(path.as_uri())
        return path

    def __repr__(self) -> str:
        return f"Report {self.title} · {len(self.html) / 1e6:.1f} MB · .save(path) or .open()"

    def _repr_html_(self) -> str:
        head = paragraph(f"{len(self.html) / 1e6:.1f} MB", strong=f"Report {self.title}")
        if not self._places:
            return head + paragraph(".save(path) writes it, .open() shows it in the browser.")
        path = self._places[-1]
        local = os.path.relpath(path)
        link = path.resolve().as_uri() if local.startswith("..") else quote(Path(local).as_posix())
        return f'{head}<p><a href="{html.escape(link)}" target="_blank">{html.escape(str(path))}</a></p>'
