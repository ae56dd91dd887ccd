"""Figures of convergence: distances and steps, a map by position, and settled positions."""

import math
from typing import TYPE_CHECKING

from torch import Tensor

from loopscope.common.text import number, percent
from loopscope.plots import style
from loopscope.plots.heatmaps import position_heatmap
from loopscope.plots.panels import Panel

from .measure import RATES_DIFFER, ConvergenceResult, ConvergenceVerdict
from .site_convergence import SiteConvergence

if TYPE_CHECKING:
    import plotly.graph_objects as go


_NO_LIMIT = (ConvergenceVerdict.growing, ConvergenceVerdict.moving, ConvergenceVerdict.slowing)
"""Of these a distance to the last state is that to a place which means nothing."""


def has_limit(result: ConvergenceResult) -> bool:
    """Whether distances to the last state may be to a limit, as far as the verdict says; of an
    unclear one, any of the conclusions that the numbers allow."""
    allowed = result.evidence.alternatives if result.verdict is ConvergenceVerdict.unclear else ()
    return any(one not in _NO_LIMIT for one in allowed or (result.verdict,))


def headline(result: ConvergenceResult) -> tuple[str, str]:
    """A short value for a tile, and its caption."""
    if result.state.rate.points:
        return f"{result.state.rate.value:.3g} per iteration", "fitted contraction rate of the rms distance"
    return percent(result.state.settled_end), f"of the positions settled after {result.extra} more iterations"


def draw(result: ConvergenceResult) -> "go.Figure":
    """Distance to the limit, if there is one or may be, and step size, by iteration."""
    state = result.state
    figure = style.empty(_title(result), "iterations run (k)", "Euclidean norm")
    name = f"distance to {result.target} (rms)"
    limited = has_limit(result)
    if limited:
        _curve(figure, state.first, state.rms_distance, name, colour=style.BLUE, width=3)
    _curve(figure, state.first + 1, state.mean_step, "size of the steps (mean)", colour=style.ORANGE)
    p = state.slowest_position
    if p is not None and _draws_slowest(result):
        name = f"distance at position {p}, of the slowest rate (mean)"
        _curve(figure, state.first, state.distance[:, p], name, colour=style.SKY, dash="dash")
    sites = result.sites if limited else ()
    for site, colour in zip(sites, style.COLOURS[2:] * len(sites), strict=False):
        _curve(figure, site.first, site.rms_distance, f"{style.label(site.site)}: distance", colour=colour)
    drawn = state.first + len(state.rms_distance)
    if state.rate.points and state.rate.first < drawn:  # a line beyond the curves fits nothing in sight
        x = [state.rate.first, state.rate.last]
        y = [state.rate.start * state.rate.value ** (k - state.rate.first) for k in x]
        line = {"color": style.RED, "width": 2, "dash": "dot"}
        name = f"fit: × {state.rate.value:.3g} per iteration"
        figure.add_scatter(x=x, y=y, name=name, mode="lines", line=line)
    figure.update_layout(showlegend=True)
    style.decades(figure)
    return figure


def _title(result: ConvergenceResult) -> str:
    if not has_limit(result):
        return "Size of the steps"
    return f"Distance to {result.target} and size of the steps"


def _curve(
    figure: "go.Figure",
    first: int,
    values: Tensor,
    name: str,
    *,
    colour: str,
    width: int = 2,
    dash: str | None = None,
) -> None:
    """A curve from iteration `first` on, without zeros, which a logarithmic axis can't show."""
    y = [v if v > 0 and math.isfinite(v) else None for v in values.tolist()]
    line = {"color": colour, "width": width} | ({} if dash is None else {"dash": dash})
    figure.add_scatter(x=list(range(first, first + len(values))), y=y, name=name, line=line)


def panels(result: ConvergenceResult) -> list[Panel]:
    """The panels of a report."""
    state = result.state
    settled = percent(state.settled_fraction[-1].item())
    first, last = (number(state.mean_cosine[k].item(), 3) for k in (0, -1))
    return [
        Panel(
            _title(result),
            draw(result),
            f"{_rates_text(result)} {state.position_rates_sentence} {result.limit_sentence}",
            "On this logarithmic scale a straight fall is contraction at a constant rate. A plateau means "
            "that the state has stopped moving, or that the precision of the numbers is reached. "
            f"{_slowest_sentence(result)}{result.limit_note}",
        ),
        Panel(
            "Relative step by iteration and position",
            _step_map(state),
            _settling_sentence(state, result.tolerance),
            "Each cell is one iteration at one position, mean over examples. Dark cells hardly move; -3 is a "
            "step of a thousandth of the state's norm. Iterations run downwards.",
        ),
        Panel(
            f"Settled positions and cosine to {result.target}",
            _settled_figure(state, result.target),
            f"{settled} of the positions have settled by the last iteration of the run; the mean cosine to "
            f"{result.target} goes from {first} before the loop to {last}.",
            "Settled from an iteration on: all later relative steps are below "
            f"{result.tolerance:g}, including those of the {result.extra} extra iterations. At cosine 1 only "
            "the length can still change.",
        ),
    ]


def _rates_text(result: ConvergenceResult) -> str:
    """The rate over all examples and those of each in one sentence, so that a page that is folded
    shows neither without the other."""
    own = result.example_rates_sentence
    return result.rate_sentence if not own else f"{result.rate_sentence[:-1]}; {own[0].lower()}{own[1:]}"


def _draws_slowest(result: ConvergenceResult) -> bool:
    """Whether one position has a line: there are others, and it falls less steeply than the
    distance over all of them, where that has a rate."""
    state = result.state
    if state.slowest_position is None or state.distance.shape[1] < 2 or not has_limit(result):
        return False
    return not state.rate.points or state.slowest_rate > RATES_DIFFER * state.rate.value


def _slowest_sentence(result: ConvergenceResult) -> str:
    """What the line of one position is, where it is drawn."""
    if not _draws_slowest(result):
        return ""
    return (
        "The position of the slowest rate is the one whose own line falls least steeply where it is fitted; "
        "it needn't be the last to come near. "
    )


def _step_map(state: SiteConvergence) -> "go.Figure":
    z = state.relative_step.clamp(1e-12, 1e12).log10()
    return position_heatmap(
        [[None if v != v else round(v, 2) for v in row] for row in z.tolist()],
        "Relative step, by iteration and position",
        "iteration (t)",
        "log10 of relative step",
        hover="position %{x}, iteration %{y}: 10^%{z}",
        y0=state.first,
        zmin=max(-8.0, float(z.nan_to_num(math.inf).min())),
        zmax=max(0.0, float(z.nan_to_num(-math.inf).max())),
    )


def _settled_figure(state: SiteConvergence, target: str) -> "go.Figure":
    figure = style.empty(
        f"Settled positions, and cosine to {target}", "iterations run (k)", "fraction | cosine", 320
    )
    k = list(range(state.first, state.first + len(state.rms_distance)))
    line = {"color": style.GREEN, "width": 3, "shape": "hv"}
    settled = state.settled_fraction.tolist()
    figure.add_scatter(x=k[:-1], y=settled, name="fraction of positions settled", line=line)
    line = {"color": style.BLUE, "width": 2, "dash": "dash"}
    cosine = state.mean_cosine
    figure.add_scatter(x=k, y=cosine.tolist(), name=f"cosine to {target} (mean)", line=line)
    figure.update_yaxes(range=[min(0.0, float(cosine.min())) - 0.03, 1.03])
    return figure


def _settling_sentence(state: SiteConvergence, tolerance: float) -> str:
    """From which iterations on the first and the last position have settled in half of the
    examples."""
    criterion = f"(relative step below {tolerance:g})"
    half = [
        next((t for t, fraction in enumerate(column) if fraction >= 0.5), None)
        for column in state.settled.T.tolist()
    ]
    settled = [t for t in half if t is not None]
    if not settled:
        return f"At no position have half of the examples settled {criterion}."
    first, last = half.index(settled[0]), len(half) - 1 - half[::-1].index(settled[-1])
    later = f", and at position {last} from iteration {settled[-1] + state.first} on" if last != first else ""
    missing = state.position_count - len(settled)
    rest = f"; at {missing} of {state.position_count} positions not within the run" if missing else ""
    return (
        f"At position {first} half of the examples have settled from iteration {settled[0] + state.first} "
        f"on{later}{rest} {criterion}."
    )
