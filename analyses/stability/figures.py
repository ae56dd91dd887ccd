"""The leading eigenvalues and the unit circle."""

import math
from typing import TYPE_CHECKING

from jaxtyping import Complex
from torch import Tensor

from loopscope.common.text import number, plural
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .result import StabilityResult

if TYPE_CHECKING:
    import plotly.graph_objects as go


FARTHEST = 3.0
"""Eigenvalues of a larger modulus aren't drawn, or the unit circle would be a dot; they are
counted."""


def headline(result: StabilityResult) -> tuple[str, str]:
    """The result in one number, and what the number is."""
    total = len(result.rows)
    known = {e.name.split(",")[0].split(" in ")[0]: e for e in result.evidence.estimates}
    radius = known.get("spectral radius at the fixed point")
    if radius is not None:
        here = f"{sum(result.at_fixed_point)} of {plural(total, 'example')}"
        return number(radius.value), f"spectral radius at the fixed point, median of {here}"
    exponent = known.get("largest Lyapunov exponent")
    if exponent is None:
        return "diverges", f"{result.outcomes.count('growing')} of {plural(total, 'example')}"
    caption = f"largest Lyapunov exponent, median of {plural(total, 'example')}"
    return f"{number(exponent.value)} nats per iteration", caption


def draw(result: StabilityResult) -> "go.Figure":
    """The leading eigenvalues and the unit circle."""
    figure = style.empty("Leading eigenvalues and the unit circle", "real part", "imaginary part", 500)
    angles = [2 * math.pi * i / 120 for i in range(121)]
    line = {"color": style.GREY, "width": 1}
    figure.add_scatter(
        x=[math.cos(a) for a in angles],
        y=[math.sin(a) for a in angles],
        mode="lines",
        line=line,
        name="modulus 1",
        hoverinfo="skip",
    )
    for row, values in enumerate(result.eigenvalues):
        if not _has_eigenvalues(result, row):
            continue
        finite = [v for v in _finite_values(values) if abs(v) <= FARTHEST]
        look = style.example_style(result.rows[row])
        rings = [3 if abs(v) > 1 + result.margin else 0 for v in finite]
        figure.add_scatter(
            x=[v.real for v in finite],
            y=[v.imag for v in finite],
            mode="markers",
            marker={
                "size": 9,
                "color": look.colour,
                "symbol": look.symbol,
                "line": {"color": style.RED, "width": rings},
            },
            showlegend=len(result.rows) <= style.LEGEND_ENTRIES,
            text=[f"example {result.rows[row]}, modulus {number(abs(v), 4)}" for v in finite],
            hovertemplate="%{x:.4f} + %{y:.4f}i, %{text}<extra></extra>",
            name=f"example {result.rows[row]}",
        )
    style.square(figure, reach=1.0)
    return figure


def _finite_values(values: Complex[Tensor, " count"]) -> list[complex]:
    return [complex(v) for v in values.tolist() if v == v]


def _has_eigenvalues(result: StabilityResult, row: int) -> bool:
    """Whether an example has eigenvalues, and not those at states that overflow or are rounding."""
    return bool(_finite_values(result.eigenvalues[row])) and result.outcomes[row] not in (
        "growing",
        "unresolved",
    )


def counts_sentence(result: StabilityResult) -> str:
    """In how many examples an eigenvalue lies outside the unit circle, at a fixed point and
    elsewhere, and how many eigenvalues are too far out to be drawn."""
    rows = [row for row in range(len(result.rows)) if _has_eigenvalues(result, row)]
    moduli = {row: [abs(v) for v in _finite_values(result.eigenvalues[row])] for row in rows}
    parts = []
    for place, here in (("at the fixed point", True), ("at a state that the loop leaves again", False)):
        some = [row for row in rows if result.at_fixed_point[row] is here]
        outside = sum(max(moduli[row]) > 1 + result.margin for row in some)
        if some:
            parts.append(f"in {outside} of the {len(some)} taken {place}")
    text = f"An eigenvalue lies outside the circle {' and '.join(parts)}."
    every = [modulus for row in rows for modulus in moduli[row]]
    far = sum(modulus > FARTHEST for modulus in every)
    if not far:
        return text
    return (
        f"{text.removesuffix('.')}; not drawn: {far} of {plural(len(every), 'eigenvalue')}, of moduli above "
        f"{FARTHEST:g} and up to {number(max(every))}."
    )


def _place_sentence(result: StabilityResult) -> str:
    """Where the Jacobian was taken."""
    here, total = sum(result.at_fixed_point), len(result.rows)
    if here == total:
        return "They are those of the Jacobian of one iteration at the fixed point."
    elsewhere = (
        "at the last state, which the loop leaves again, so that they say what one iteration does there and "
        "not what becomes of differences in the long run"
    )
    if not here:
        return f"They are those of the Jacobian of one iteration {elsewhere}."
    return (
        f"They are those of the Jacobian of one iteration: in {here} of {plural(total, 'example')} at the "
        f"fixed point, in the others {elsewhere}."
    )


def panels(result: StabilityResult) -> list[Panel]:
    """The panels of a report; none where no example has eigenvalues that mean anything."""
    if not any(_has_eigenvalues(result, row) for row in range(len(result.rows))):
        return []
    return [
        Panel(
            "Leading eigenvalues and the unit circle",
            draw(result),
            f"{result.sentence} {counts_sentence(result)} {result.agreement_sentence}",
            f"{_place_sentence(result)} A difference along an eigenvector is scaled by the eigenvalue's "
            "modulus per iteration and turns by its angle; inside the circle it dies out, outside (ringed in "
            "red) it grows. Each colour and shape is one example.",
        )
    ]
