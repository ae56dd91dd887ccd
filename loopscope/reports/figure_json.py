"""Figures as JSON that is safe in a page."""

import json
import re
from typing import Any

from ..plots.panels import Frame, Panel

_TAG = re.compile(r"<(?!/?(?:b|i|br|sub|sup|extra)>)")
_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def panel_json(panel: Panel) -> str:
    """A panel's figure and the frames of its control, for the page's script."""
    drawn = json.loads(str(panel.figure.to_json()))
    drawn["layout"].pop("title", None)  # the page shows the panel's title
    drawn["layout"].setdefault("margin", {})["t"] = 14
    content = {
        "data": drawn["data"],
        "layout": drawn["layout"],
        "frames": [_frame(frame) for frame in panel.frames],
        "first": panel.first,
    }
    return safe_json(literal(content))


def safe_json(value: Any) -> str:
    """JSON for a script element: nothing in it can end the element or begin another."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return "".join(_SCRIPT.get(character, character) for character in text)


def literal(value: Any) -> Any:
    """The same with every tag in its strings escaped, except the few that labels may use for
    formatting.

    Labels are escaped where they are made (`plots.style.label`); this catches those that weren't.
    """
    if isinstance(value, str):
        return _TAG.sub("&lt;", value)
    if isinstance(value, dict):
        return {key: literal(inner) for key, inner in value.items()}
    return [literal(inner) for inner in value] if isinstance(value, list) else value


def _frame(frame: Frame) -> dict[str, Any]:
    from plotly.io.json import to_json_plotly  # knows numpy, and turns NaN into null

    return {"label": frame.label, "update": json.loads(str(to_json_plotly(dict(frame.update))))}
