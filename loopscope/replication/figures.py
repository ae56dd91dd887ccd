"""The figures of a finding: its curves, and its numbers by seed.

Numbers are named "quantity, variant", such as "growth, plain" and "growth, penalty": what has one
quantity is in one figure, whose axis it names.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from ..common.text import listed
from ..plots.panels import Panel
from ..plots.style import COLOURS, DASHES, GREY, SYMBOLS, empty, label
from .measurement import figure as in_words
from .measurement import interval_text
from .record import Measured
from .replication import Replication

ROW, GAP = 28, 0.22
"""Pixels of a row, and the distance of a seed's dot from the next one's, in rows."""
NAME, TICKS = 18, 12
"""Characters in a line of a row's name, and ticks of an axis at most."""


def panels(one: Replication) -> list[Panel]:
    """The curves, where some were measured, and the numbers of each seed with their intervals."""
    if not one.numbers or one.attempt is None:
        return []
    measured = [m for m in one.attempt.measured if m.seed in one.numbers]
    curves = _by_quantity([name for m in measured for name in m.curves if _values(m, name)])
    numbers = _by_quantity(
        [name for name in one.mean if any(m.numbers.get(name) is not None for m in measured)]
    )
    return [
        *(_curves(quantity, names, measured, one.finding.curve_start) for quantity, names in curves.items()),
        *(_numbers(quantity, names, measured, one) for quantity, names in numbers.items()),
    ]


def _by_quantity(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """By quantity: the names of its variants, by the variant."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        quantity, _, variant = name.partition(", ")
        groups.setdefault(quantity, {})[variant] = name
    return groups


def _numbers(quantity: str, names: dict[str, str], measured: Sequence[Measured], one: Replication) -> Panel:
    """A row for each variant: a dot for each seed, and a line at their mean."""
    figure = empty("", quantity, "", 110 + ROW * 2 * len(names))
    rows = list(range(len(names)))
    for place, m in enumerate(measured):
        stored = [m.numbers.get(name) for name in names.values()]
        ends = [tuple(v) if isinstance(v, list) else (v, v, v) for v in stored]
        text = [interval_text(v) for v in stored]
        figure.add_scatter(
            mode="markers",
            name=f"seed {m.seed}",
            x=[value for value, _, _ in ends],
            y=[row + GAP * (place - (len(measured) - 1) / 2) for row in rows],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [_distance(high, value) for value, _, high in ends],
                "arrayminus": [_distance(value, low) for value, low, _ in ends],
            },
            marker={
                "size": 9,
                "color": COLOURS[place % len(COLOURS)],
                "symbol": SYMBOLS[place % len(SYMBOLS)],
            },
            text=text,
            hovertemplate=f"seed {m.seed}: %{{text}}<extra></extra>",
        )
    line = {"symbol": "line-ns", "size": ROW, "line": {"width": 3, "color": GREY}, "color": GREY}
    means = [None if one.mean[name] != one.mean[name] else one.mean[name] for name in names.values()]
    figure.add_scatter(mode="markers", name="mean", x=means, y=rows, marker=line)
    texts = ["<br>".join(map(label, textwrap.wrap(variant, NAME))) for variant in names]
    figure.update_yaxes(range=[len(names) - 0.4, -0.6], tickvals=rows, ticktext=texts)
    passed, of_mean = sum(one.passed.values()), "holds" if one.criterion_of_mean else "does not hold"
    means_in_words = [f"{in_words(one.mean[name])}{_of(variant)}" for variant, name in names.items()]
    return Panel(
        f"{_capital(quantity)}, by seed",
        figure,
        f"{_capital(quantity)} is {listed(means_in_words)} on average. The criterion holds in {passed} of "
        f"{len(one.passed)} seeds, and {of_mean} for the mean.",
        "A dot is a seed, the grey line the mean; a bar is a seed's 95 % interval where one was measured.",
    )


def _curves(quantity: str, names: dict[str, str], measured: Sequence[Measured], start: int) -> Panel:
    """A line for each variant and seed. The colour is the variant's and the dash the seed's; where
    there is one variant alone, both are the seed's."""
    figure = empty("", measured[0].axis, quantity, 380)
    longest = max(len(_values(m, name)) for m in measured for name in names.values())
    for place, (variant, name) in enumerate(names.items()):
        for dash, m in enumerate(measured):
            colour = place if len(names) > 1 else dash
            figure.add_scatter(
                x=list(range(start, start + len(_values(m, name)))),
                y=_values(m, name),
                mode="lines" if longest > 1 else "markers",
                name=label(", ".join(filter(None, (variant, f"seed {m.seed}")))),
                line={"color": COLOURS[colour % len(COLOURS)], "dash": DASHES[dash % len(DASHES)]},
            )
    step = next(n * 10**k for k in range(9) for n in (1, 2, 5) if n * 10**k * TICKS >= longest)
    every = [_values(m, name) for m in measured for name in names.values()]
    drawn = [i for values in every for i, value in enumerate(values) if value is not None]
    pad = 0.02 * longest
    figure.update_xaxes(tick0=0, dtick=step, range=[start + min(drawn) - pad, start + max(drawn) + pad])
    ends = [f"{in_words(_last(name, measured))}{_of(variant)}" for variant, name in names.items()]
    return Panel(
        f"{_capital(quantity)} over {measured[0].axis}",
        figure,
        f"{_capital(quantity)} ends at {listed(ends)}, on average over the seeds.",
        "A colour is a variant, a dash a seed." if len(names) > 1 else "A line is a seed.",
    )


def _values(m: Measured, name: str) -> list[float | None]:
    values: list[float | None] = list(m.curves.get(name) or ())
    return values if any(value is not None for value in values) else []


def _last(name: str, measured: Sequence[Measured]) -> float:
    """The mean of the curves' last values."""
    ends: list[Any] = [values[-1] for m in measured if (values := _values(m, name))]
    ends = [end for end in ends if end is not None]
    return sum(ends) / len(ends) if ends else math.nan


def _distance(high: float | None, low: float | None) -> float:
    return 0.0 if high is None or low is None else high - low


def _of(variant: str) -> str:
    return f" ({variant})" if variant else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
