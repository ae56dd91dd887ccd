"""What notebooks show: small HTML in which every string is escaped, and figures by plotly's own
renderer."""

import html
from collections.abc import Iterable, Sequence
from typing import Any


def paragraph(text: object, *, strong: object = "") -> str:
    """A paragraph of plain text, with a part in bold before it."""
    bold = f"<strong>{_escaped(strong)}</strong> " if strong != "" else ""
    return f"<p>{bold}{_escaped(text)}</p>"


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Rows of plain text under a header."""
    head = "".join(f"<th>{_escaped(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{_escaped(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def with_figure(text: str, figure: Any) -> str:
    """HTML with a plotly figure under it, for what takes one piece of HTML. It loads plotly's
    script from its CDN."""
    return text + figure.to_html(full_html=False, include_plotlyjs="cdn")


def show(text: str, figure: Any, plain: str) -> None:
    """Show HTML and a figure in a notebook; `plain` in IPython on a terminal.

    The figure is an output of its own, since plotly knows how Jupyter, VS Code and Colab each want
    it.
    """
    from IPython.core.getipython import get_ipython
    from IPython.display import HTML, display

    if getattr(get_ipython(), "kernel", None) is None:
        print(plain)  # noqa: T201
        return
    display(HTML(text), figure)


def _escaped(text: object) -> str:
    return html.escape(str(text))
