"""Figures as JSON that is safe in a page."""

import base64
import html
import json
import math
import re
import zlib
from typing import Any

from ..common.to_json import rounded
from ..plots.panels import Frame, Panel
from .section import Table

HEIGHT, TALLEST, ROW = 260, 480, 13
"""Pixels of a figure on the page, without its legend; of one whose rows are iterations; and of such
a row, at least."""
DIGITS, CELL_DIGITS = 7, 3
"""Significant digits of a number in a figure: as many as float32 has, and of a cell of a heat map,
whose colour says less."""
WIDE = 20
"""Columns of tokens that need a row of the page to themselves."""
_ROWS = {False: 370, True: 800}
"""Pixels in a line of a legend, in half the width of the page and in all of it."""
_LINES = 5
"""Lines of a legend above a figure; a longer one stands at its right."""
_TAG = re.compile(r"<(?!/?(?:b|i|br|sub|sup|extra)>)")
_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_UNSAFE = re.compile(f"[{''.join(_SCRIPT)}]")


def panel_json(panel: Panel, is_full: bool = False, pixels: int | None = None) -> str:
    """A panel's figure and the frames of its control, for the page's script.

    Arguments:
        is_full: it has all of the page's width; otherwise half of it.
        pixels: its height; None for its own (`height`).
    """
    drawn = json.loads(str(panel.figure.to_json()))
    layout, lines = drawn["layout"], _legend_lines(drawn["data"], is_full)
    layout.pop("title", None)  # the page shows the panel's title
    layout.pop("template", None)
    layout["height"] = height(panel, is_full) if pixels is None else pixels
    if lines > _LINES:
        layout["legend"] = {"orientation": "v", "x": 1.02, "y": 1, "xanchor": "left", "yanchor": "top"}
        lines = 0
    layout["margin"] = {"l": 54, "r": 12, "t": 12, "b": 44}
    layout["font"] = {**layout.get("font", {}), "size": 12}
    long_labels = any(isinstance(y, str) for trace in drawn["data"] for y in list(trace.get("y") or ())[:1])
    inside = layout["height"] - 56 - 20 * lines
    for name, axis in layout.items():
        if re.fullmatch(r"[xy]axis\d*", name):
            if name[0] == "x" and _is_short(axis, drawn["data"]):
                axis["dtick"] = 1
            _wrap(axis.get("title"), inside // 8 if name[0] == "y" else 24 if long_labels else 52)
    for trace in drawn["data"]:
        for owner in (trace, trace.get("marker") or {}):
            if isinstance(owner, dict):
                _wrap((owner.get("colorbar") or {}).get("title"), inside // 8)
    frames = [_update(frame) for frame in panel.frames]
    drawn = {"data": drawn["data"], "layout": layout, "frames": frames}
    return safe_json(literal(rounded(drawn, DIGITS, z=CELL_DIGITS)))


def packed(text: str) -> str:
    """Text compressed (zlib) and in base64, as the page's script unpacks it."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def unpacked(text: str) -> str:
    """The text that was packed."""
    return zlib.decompress(base64.b64decode(text)).decode()


def height(panel: Panel, is_full: bool = False) -> int:
    """Pixels of a panel's figure on the page."""
    traces = panel.traces
    wanted = int(panel.figure.layout.height or HEIGHT)
    rows = [
        len(trace["z"]) + 2 for trace in traces if trace["type"] == "heatmap" and trace.get("texttemplate")
    ]
    if rows:  # with room for a line of text in each row
        return min(wanted, max(TALLEST, 100 + ROW * max(rows)))
    lines = _legend_lines(traces, is_full)
    return min(wanted, HEIGHT) + 20 * max(0, lines - 1 if lines <= _LINES else 0)


def table_of(panel: Panel) -> Table | None:
    """A figure that is nothing but a table, which a page writes as one: in a figure it would be cut
    off below."""
    traces = panel.traces
    if [trace["type"] for trace in traces] != ["table"]:
        return None
    header, columns = (list(traces[0][part]["values"]) for part in ("header", "cells"))
    rows = [[html.unescape(str(cell)) for cell in row] for row in zip(*columns, strict=True)]
    return Table([html.unescape(str(cell)) for cell in header], rows)


def is_wide(panel: Panel) -> bool:
    """Whether a panel needs the whole width of the page: it shows tokens in many columns, or has a
    long legend."""
    traces = panel.traces
    for trace in traces:
        if trace["type"] == "heatmap" and trace.get("texttemplate") and len(trace.get("z", ())):
            return len(trace["z"][0]) > WIDE
    return _legend_lines(traces) > _LINES


def safe_json(value: Any) -> str:
    """JSON for a script element: nothing in it can end the element or begin another."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return _UNSAFE.sub(lambda match: _SCRIPT[match[0]], text)


def literal(value: Any) -> Any:
    """The same with every tag in its strings escaped, except the few that labels may use for
    formatting.

    Labels are escaped where they are made (`plots.style.label`); this catches those that weren't.
    """
    if isinstance(value, str):
        return _TAG.sub("&lt;", value)
    if isinstance(value, dict):
        return {key: literal(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [inner if type(inner) in (float, int) else literal(inner) for inner in value]
    return value


def _legend_lines(traces: list[dict[str, Any]], is_full: bool = False) -> int:
    """Lines of the horizontal legend; plotly gives every name as much room as the longest."""
    names = [
        str(trace.get("name", ""))
        for trace in traces
        if trace.get("showlegend", True) and trace["type"] in ("scatter", "bar") and trace.get("name")
    ]
    widths = [52 + 6.4 * len(name) for name in names]
    if len(names) < 2 or sum(widths) <= _ROWS[is_full]:
        return int(len(names) > 1)
    return math.ceil(len(names) / max(1, _ROWS[is_full] // max(widths)))


def _wrap(title: Any, line: int) -> None:
    """Break a title into lines of so many characters, which plotly doesn't."""
    if isinstance(title, dict) and len(title.get("text") or "") > line and "<br>" not in title["text"]:
        lines = [""]
        for word in title["text"].split(" "):
            if lines[-1] and len(lines[-1]) + len(word) >= line:
                lines.append("")
            lines[-1] += f" {word}" if lines[-1] else word
        title["text"] = " <br>".join(lines)  # with the blank: the text can be read as one


def _is_short(axis: dict[str, Any], traces: list[dict[str, Any]]) -> bool:
    """Whether an axis counts so few iterations that plotly would put ticks between them."""
    title = str((axis.get("title") or {}).get("text") or "")
    ends = [x for trace in traces for x in list(trace.get("x") or ()) if isinstance(x, (int, float))]
    counts = title.startswith(("iterations run", "iteration (t)", "first frozen iteration"))
    return counts and "mean" not in title and bool(ends) and max(ends) <= 4


def _update(frame: Frame) -> dict[str, Any]:
    from plotly.io.json import to_json_plotly  # knows numpy, and turns NaN into null

    return json.loads(str(to_json_plotly(dict(frame.update))))
