"""The page: sections, tiles and figures in one HTML file that loads nothing from elsewhere."""

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
    subtitle: str,
    tiles: Sequence[Tile],
    card: tuple[Markup, Markup] | None,
    sections: Sequence[Section],
    details: Sequence[tuple[str, str]],
    command: str,
    date: str,
    cdn: bool = False,
) -> str:
    """The HTML of a page. Every argument is plain text and is escaped, except `card` (see
    `card_html`).

    The page's policy allows only scripts with a listed digest, and no loading at all: even if a
    string got into the page as HTML, it could neither run nor send anything.

    Arguments:
        subtitle: a line under the title.
        card: the model card before its first second-level heading, and the rest; None for none.
        details: names and values, for the last section.
        command: how to make the page again.
        date: when it was made.
        cdn: load plotly's script from its own server instead of holding it (4.8 MB), with its
            digest; the policy then allows that address and no other. Such a page needs a network.
    """
    from plotly.offline import get_plotlyjs, get_plotlyjs_version

    numbers = itertools.count(1)
    numbered = [(section, [(next(numbers), panel) for panel in section.panels]) for section in sections]
    plotly, script = get_plotlyjs(), _text("page.js")
    address = f"https://cdn.plot.ly/plotly-{get_plotlyjs_version()}.min.js" if cdn else None
    return _template().render(
        title=title,
        subtitle=subtitle,
        tiles=tiles,
        card=card,
        sections=numbered,
        details=details,
        command=command,
        date=date,
        policy=f"default-src 'none'; script-src {address or _quoted(plotly)} {_quoted(script)}; "
        "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'",
        style=Markup(_text("style.css")),
        plotly=Markup(plotly),
        cdn=address,
        integrity=_digest(plotly),
        script=Markup(script),
    )


@functools.cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = lambda panel: Markup(panel_json(panel))
    return environment.from_string(_text("template.html"))


@functools.cache
def _text(name: str) -> str:
    return files("loopscope.reports").joinpath(name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _quoted(script: str) -> str:
    return f"'{_digest(script)}'"
