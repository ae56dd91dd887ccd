"""Figures as files, drawn by kaleido in a local Chrome or Chromium. Nothing is loaded from
elsewhere."""

import asyncio
import importlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..common.atomic_write import atomic_write
from ..common.errors import LoopscopeError
from ..plots.panels import Panel

if TYPE_CHECKING:
    import plotly.graph_objects as go

Format = Literal["svg", "png"]
WIDTH, INK, SCALE = 900, "#1b1f24", 2
"""Pixels; the colour of text on the white paper of a file; pixels of a PNG for each of an SVG."""


def save_figures(panels: Sequence[tuple[str, Panel]], folder: Path, format: Format) -> list[Path]:
    """Write each panel's figure to a file, numbered in their order. Returns the paths.

    Arguments:
        panels: each with the name of its section.

    Raises:
        LoopscopeError: kaleido or a browser isn't installed, or a file can't be written.
    """
    kaleido = _kaleido()
    paths = [
        folder / f"{number:02}-{_slug(section)}-{_slug(panel.title)}.{format}"
        for number, (section, panel) in enumerate(panels, 1)
    ]
    figures = [_on_paper(panel) for _, panel in panels]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A notebook's thread has a running event loop, so the drawing has a thread of its own.
        with ThreadPoolExecutor(1) as thread:
            pictures = thread.submit(asyncio.run, _drawn(kaleido, figures, format)).result()
        for path, picture in zip(paths, pictures, strict=True):
            with atomic_write(path) as part:
                part.write_bytes(picture)
    except OSError as error:
        raise LoopscopeError(
            f"the figures must be written into {folder}, but that failed: {error.strerror or error}. Free "
            "some space, or choose another place."
        ) from error
    return paths


def check_figures() -> None:
    """Raise LoopscopeError if kaleido isn't installed, before anything is measured."""
    _kaleido()


def _kaleido() -> Any:
    try:
        kaleido: Any = importlib.import_module("kaleido")
    except ImportError:
        kaleido = None
    if not hasattr(kaleido, "Kaleido"):  # none, or a version below 1
        raise LoopscopeError(
            "figures as files need kaleido 1.0 or later, which isn't installed. Run: "
            'pip install "loopscope[figures]"; it also needs Chrome or Chromium on this machine '
            "(kaleido_get_chrome installs one)."
        )
    return kaleido


async def _drawn(kaleido: Any, figures: Sequence[Any], format: Format) -> list[bytes]:
    """The content of the files."""
    no_browser = importlib.import_module("choreographer.errors").ChromeNotFoundError
    options = {"format": format, "width": WIDTH, "scale": SCALE if format == "png" else 1}
    try:
        async with kaleido.Kaleido(mathjax=False) as browser:
            return [
                await browser.calc_fig(figure, opts=options | {"height": figure.layout.height or 380})
                for figure in figures
            ]
    except no_browser as error:
        raise LoopscopeError(
            "figures as files need Chrome or Chromium on this machine, but there is none. Install one, run "
            "kaleido_get_chrome, or say where it is by the variable BROWSER_PATH."
        ) from error


def _on_paper(panel: Panel) -> "go.Figure":
    """The figure in colours for white paper; on a page it is transparent."""
    import plotly.graph_objects as go

    figure = go.Figure(panel.figure)
    return figure.update_layout(paper_bgcolor="white", plot_bgcolor="white", font={"color": INK})


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "figure"
