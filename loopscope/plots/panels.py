"""Panels: figures with their captions, as a report shows them."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from loopscope.common.errors import LoopscopeError

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Frame:
    """One version of a panel's figure, which the panel's control can select."""

    label: str
    """Its name in the control; plain text."""
    update: Mapping[int, Mapping[str, Any]]
    """By index of the trace: the attributes that change."""


@dataclass(frozen=True)
class Control:
    """One of several controls of a panel: it selects along one axis of the frames."""

    name: str
    """What it selects, in a word or two, such as "head"; plain text."""
    labels: Sequence[str]
    """Its values, in order; plain text."""
    kind: Literal["choose", "slide"] = "choose"
    """A menu, or a slider that goes through the values in order."""


@dataclass(frozen=True)
class Panel:
    """A figure with its captions. An analysis' `panels(result)` returns a list of them."""

    title: str
    """What the figure shows; plain text."""
    figure: "go.Figure"
    observation: str
    """What is seen in the figure: one or two sentences made from the numbers."""
    reading: str
    """How to read the figure."""
    frames: Sequence[Frame] = field(default=())
    """What the control selects from, if there is one."""
    control: Literal["choose", "play"] = "choose"
    """A menu, or a button and a slider that go through the frames in order."""
    first: int = 0
    """Index of the frame that the figure shows at first."""
    menu_label: str = "Example"
    """What the menu selects, in a word."""
    controls: Sequence[Control] = field(default=())
    """Several controls, in place of `control` and `menu_label`. There is a frame for each
    combination of their values, in row-major order: the last control's value changes fastest."""

    @functools.cached_property
    def traces(self) -> list[dict[str, Any]]:
        """The figure's traces, as they are when this is first read; plotly copies all of their
        numbers."""
        data: Any = self.figure.data
        return [trace.to_plotly_json() for trace in data]

    def __post_init__(self) -> None:
        combinations = prod(len(control.labels) for control in self.controls)
        if self.controls and len(self.frames) != combinations:
            raise LoopscopeError(
                f"a panel with controls must have a frame for each combination of their values: "
                f"{combinations}, but the panel '{self.title}' has {len(self.frames)}. Pass the frames in "
                "row-major order."
            )
