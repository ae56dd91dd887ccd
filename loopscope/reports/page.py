"""The page: a summary, and sections with figures, in one HTML file that loads nothing from
elsewhere."""

import base64
import functools
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from .figure_json import packed
from .folding import groups
from .section import Section, Summary

_EQUALS = re.compile(r"\b([kmt]) = ")


def page(
    *,
    title: str,
    subtitle: str,
    summary: Summary | None,
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
        summary: what stands at the top; None for nothing.
        card: the model card before its first second-level heading, and the rest; None for none.
        sections: in any order; those of a group stand together.
        details: names and values, for the last section.
        command: how to make the page again.
        date: when it was made.
        cdn: load plotly's script from its own server instead of holding it (4.8 MB), with its
            digest; the policy then allows that address and no other. Such a page needs a network.
    """
    from plotly.offline import get_plotlyjs, get_plotlyjs_version

    plotly, script = get_plotlyjs(), _text("page.js")
    address = f"https://cdn.plot.ly/plotly-{get_plotlyjs_version()}.min.js" if cdn else None
    grouped = groups(sections, title)
    figures = [f for _, views in grouped for view in views for f in view.figures if f.table is None]
    data = [f'"{f.number}":{f.data}' for f in figures]
    return _template().render(
        title=title,
        subtitle=subtitle,
        summary=summary,
        card=card,
        groups=grouped,
        figures=packed(f"{{{','.join(data)}}}"),
        is_grouped=len(grouped) > 1,
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
    environment.filters["labels"] = lambda labels: json.dumps(list(labels))
    environment.filters["tight"] = _tight
    return environment.from_string(_text("template.html"))


def _tight(text: object) -> str:
    """A text whose lines don't break within "5 %" or "k = 3"."""
    return _EQUALS.sub("\\1\u00a0=\u00a0", str(text).replace(" %", "\u00a0%"))


@functools.cache
def _text(name: str) -> str:
    return files("loopscope.reports").joinpath(name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _quoted(script: str) -> str:
    return f"'{_digest(script)}'"
