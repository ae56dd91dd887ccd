"""How Effects are shown, and their table of pandas."""

from typing import TYPE_CHECKING, Any

import torch

from ..common.notebook import paragraph, show, table, with_figure
from ..common.tidy_table import tidy

if TYPE_CHECKING:
    from .effects_result import Effects

MOST_ROWS = 8
"""The strongest effects that a notebook shows in a table."""


class EffectsDisplay:
    """The methods of Effects that show or convert them."""

    def to_pandas(self: Any) -> Any:
        """A DataFrame with a row for each cell: site, iteration, position, head, and the effect
        averaged over examples, NaN where there is none. A group of positions is text, such as
        "0, 1", or "all"; so is head where all were patched jointly.

        Raises:
            LoopscopeError: pandas isn't installed (extra: pandas).
        """
        coordinates = {
            "site": self.sites,
            "iteration": self.iterations,
            "position": position_names(self),
            "head": self.heads or ("all",),
        }
        return tidy({"effect": self.mean}, tuple(coordinates), coordinates)

    def _repr_html_(self: Any) -> str:
        return with_figure(_description(self), self.figure())

    def _ipython_display_(self: Any) -> None:
        show(_description(self), self.figure(), repr(self))


def position_names(effects: "Effects") -> list[int | str]:
    """Each group of positions: its number if it is one, else the numbers as text, or "all"."""
    return [
        group[0] if len(group) == 1 else ", ".join(map(str, group)) or "all" for group in effects.positions
    ]


def _description(effects: "Effects") -> str:
    """What was patched, and the cells with the strongest effects."""
    mean = effects.mean
    names = (effects.sites, effects.iterations, position_names(effects), effects.heads or ("all",))
    rows = []
    for cell in mean.abs().nan_to_num(-1).flatten().argsort(descending=True, stable=True)[:MOST_ROWS]:
        place = torch.unravel_index(cell, mean.shape)
        value = float(mean[place])
        if value == value:
            where = (axis[int(index)] for axis, index in zip(names, place, strict=True))
            rows.append((*where, f"{value:.3g}"))
    unit = f" [{effects.unit}]" if effects.unit else ""
    header = ("site", "iteration", "position", "head", f"change of {effects.metric}{unit}")
    caption = paragraph(f"The strongest of {int((~mean.isnan()).sum())} effects, averaged over examples:")
    return paragraph(repr(effects)) + caption + table(header, rows)
