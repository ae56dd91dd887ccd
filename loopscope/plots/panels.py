from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Frame:
    """One of the things that a panel's control can show."""

    label: str
    """What the control calls it; plain text."""
    update: Mapping[int, Mapping[str, Any]]
    """By number of the trace: its attributes that change."""


@dataclass(frozen=True)
class Panel:
    """A figure with the words that belong to it. What a report shows; an analysis'
    `panels(finding)` gives a list of them."""

    title: str
    """What the figure shows; plain text."""
    figure: Any
    """plotly.graph_objects.Figure"""
    seen: str
    """One sentence that says what is seen, made from the numbers."""
    reading: str
    """One sentence that says how to read it."""
    frames: Sequence[Frame] = field(default=())
    """What its control chooses from, if it has one; the figure shows one of them at first."""
    control: Literal["choose", "play"] = "choose"
    """A menu, or a button and a slider that go through the frames in order."""
    first: int = 0
    """The frame that the figure shows at first."""
    asks: str = "Example"
    """What the menu chooses, in a word."""
