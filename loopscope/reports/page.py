"""The page: sections, tiles and figures in one HTML file that needs nothing from outside and asks
for nothing."""

import base64
import functools
import hashlib
import itertools
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from .figure_json import panel_json
from .section import Section, Tile


def page(
    *,
    title: str,
    what: str,
    tiles: Sequence[Tile],
    card: tuple[Markup, Markup] | None,
    sections: Sequence[Section],
    colophon: Sequence[tuple[str, str]],
    command: str,
    made: str,
) -> str:
    """The HTML of a page. Every argument is plain text and is escaped, but for `card` (see
    `card_html`).

    Scripts run only if their digest is in the page's own policy, and nothing may be fetched: should
    a string ever get through as HTML, it could still neither run nor call home.
    """
    from plotly.offline import get_plotlyjs

    numbers = itertools.count(1)
    shown = [(section, [(next(numbers), panel) for panel in section.panels]) for section in sections]
    plotly, script = get_plotlyjs(), _text("page.js")
    return _template().render(
        title=title,
        what=what,
        tiles=tiles,
        card=card,
        sections=shown,
        colophon=colophon,
        command=command,
        made=made,
        policy=f"default-src 'none'; script-src '{_digest(plotly)}' '{_digest(script)}'; style-src "
        "'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'",
        style=Markup(_text("style.css")),
        plotly=Markup(plotly),
        script=Markup(script),
    )


@functools.cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    world = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    world.filters["figure"] = lambda panel: Markup(panel_json(panel))
    return world.from_string(_text("template.html"))


@functools.cache
def _text(name: str) -> str:
    return files("loopscope.reports").joinpath(name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
