"""Figures of convergence: the panels and the headline that a report shows."""

import math
from typing import Any

from torch import Tensor

from loopscope.common.text import number, percent
from loopscope.plots import style
from loopscope.plots.heatmaps import map_of
from loopscope.plots.panels import Panel

from .distance_to_limit import Approach
from .measure import Convergence, _last, _positions


def headline(result: Convergence) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    t = result.state
    if t.rate.points:
        return f"{t.rate.value:.3g} per iteration", f"contraction rate. {result.verdict.sentence}"
    if t.slowest == t.slowest:
        return (
            f"{t.slowest:.3g} per iteration",
            f"contraction rate of the slowest position. {result.verdict.sentence}",
        )
    return result.verdict.name, result.verdict.sentence


def draw(result: Convergence) -> Any:
    """Distance to the limit and step size, by iteration."""
    t = result.state
    figure = style.empty(
        "Distance to the limit and step size, by iteration", "iterations run", "Euclidean norm"
    )
    k = list(range(t.first, t.first + len(t.whole)))
    figure.add_scatter(
        x=k,
        y=_positive(t.whole),
        name="distance to the limit (rms)",
        line={"color": style.BLUE, "width": 3},
    )
    figure.add_scatter(
        x=k[1:],
        y=_positive(t.step.mean(1)),
        name="step just made (mean)",
        line={"color": style.ORANGE, "width": 2},
    )
    if t.slowest == t.slowest and t.distance.shape[1] > 1:
        p = int(t.rate_by_position.nan_to_num(-1).argmax())
        name = f"distance at position {p}, the slowest (mean)"
        figure.add_scatter(
            x=k,
            y=_positive(t.distance[:, p]),
            name=name,
            line={"color": style.SKY, "width": 2, "dash": "dash"},
        )
    for site, colour in zip(result.sites, style.COLOURS[2:] * len(result.sites), strict=False):
        own = list(range(site.first, site.first + len(site.whole)))
        name = f"{style.label(site.site)}: distance"
        figure.add_scatter(x=own, y=_positive(site.whole), name=name, line={"color": colour, "width": 2})
    if t.rate.points:
        x = [t.rate.first, t.rate.last]
        y = [t.rate.start * t.rate.value ** (k - t.rate.first) for k in x]
        line = {"color": style.RED, "width": 2, "dash": "dot"}
        figure.add_scatter(x=x, y=y, name=f"fit: × {t.rate.value:.3g} per iteration", mode="lines", line=line)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    return figure


def panels(result: Convergence) -> list[Panel]:
    """The finding as a report shows it."""
    t = result.state
    share, cosine = percent(_last(t.share)), [number(t.cosine[k].mean().item(), 3) for k in (0, -1)]
    return [
        Panel(
            "How far the state is from its limit",
            draw(result),
            f"{t.rate.sentence} {_positions(t)} One more iteration moves the limit itself by "
            f"{number(t.residual, 2)} of its norm in the mean, {number(t.residual_max, 2)} at most.",
            "On this logarithmic scale a straight fall is a steady contraction, and a level stretch is "
            "standing still, or the "
            f"end of the numbers' precision. {result.how}",
        ),
        Panel(
            "Where the state still moves",
            _map(t),
            _moving(t, result.tolerance),
            "Each cell is one iteration at one position, the mean over examples: dark is still, and -3 is a "
            "step of a thousandth of the state's norm. Time runs downwards.",
        ),
        Panel(
            "How much has settled",
            _shares(t),
            f"{share} of the positions are settled by the last iteration shown; the mean cosine to the "
            f"limit goes from {cosine[0]} before the loop to {cosine[1]}.",
            f"Settled from an iteration on: no later relative step reaches {result.tolerance:g}, those of "
            f"the {result.extra} extra iterations included. At cosine 1 only the length can still change.",
        ),
    ]


def _map(t: Approach) -> Any:
    z = t.relative_step.clamp(1e-12, 1e12).log10()
    return map_of(
        [[round(v, 2) for v in row] for row in z.tolist()],
        "Relative step, by iteration and position",
        "iteration",
        "log10 of relative step",
        hover="position %{x}, iteration %{y}: 10^%{z}",
        y0=t.first,
        zmin=max(-8.0, float(z.min())),
        zmax=max(0.0, float(z.max())),
    )


def _shares(t: Approach) -> Any:
    figure = style.empty(
        "Settled positions, and cosine to the limit", "iterations run", "fraction | cosine", 320
    )
    k = list(range(t.first, t.first + len(t.whole)))
    line = {"color": style.GREEN, "width": 3, "shape": "hv"}
    figure.add_scatter(x=k[:-1], y=t.share.tolist(), name="fraction of positions settled", line=line)
    line = {"color": style.BLUE, "width": 2, "dash": "dash"}
    figure.add_scatter(x=k, y=t.cosine.mean(1).tolist(), name="cosine to the limit (mean)", line=line)
    figure.update_yaxes(range=[min(0.0, float(t.cosine.mean(1).min())) - 0.03, 1.03])
    return figure


def _moving(t: Approach, tolerance: float) -> str:
    """A sentence on the order in which positions come to rest."""
    half = [
        next((k for k, share in enumerate(column) if share >= 0.5), None) for column in t.settled.T.tolist()
    ]
    known = [k for k in half if k is not None]
    if not known:
        return f"At no position has half of the examples come to rest (relative step below {tolerance:g})."
    first, last = half.index(known[0]), len(half) - 1 - half[::-1].index(known[-1])
    then = f" and at position {last} from iteration {known[-1] + t.first} on" if last != first else ""
    left = len(half) - len(known)
    rest = f"; at {left} of {len(half)} positions not within the iterations shown" if left else ""
    return (
        f"Half of the examples have come to rest at position {first} from iteration {known[0] + t.first} "
        f"on{then}{rest} (relative step below {tolerance:g})."
    )


def _positive(values: Tensor) -> list[float | None]:
    """For a logarithmic axis, which has no place for zero."""
    return [v if v > 0 and math.isfinite(v) else None for v in values.tolist()]
