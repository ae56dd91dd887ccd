"""Does the loop settle, where, and how fast?

Definitions, for the state and for any recorded site, with x_k the value after k iterations, one vector per example and
position (all axes but these two are the vector), and norms Euclidean:

- step: ‖x_(t+1) - x_t‖, and relative step ‖x_(t+1) - x_t‖ / ‖x_(t+1)‖.
- limit x*: the state after EXTRA iterations beyond those shown, and its residual ‖F(x*) - x*‖ / ‖x*‖, with F one
  iteration. A module that can't be iterated on has only what was recorded: then the last quarter is spent on the limit.
- distance ‖x_k - x*‖ and cosine x_k·x* / ‖x_k‖‖x*‖.
- settled from iteration t on: every relative step from t to the end of the extra iterations is below the tolerance.
- contraction rate: the factor per iteration of the root mean square distance over examples and positions, fitted to its
  logarithm between the transient and the floor (`loopscope.maths.contraction`), where rounding or an unfinished limit shows
  (`loopscope.approach.CLEAR`). The same for each position by itself, over examples.

Sources: successive and limit distances per position, with their cosine, Blayney et al. 2026 (arXiv 2604.11791) and Geiping
et al. 2025 (arXiv 2502.05171), who take the state after 128 iterations as the limit; the relative step as a sign that a loop
is done, Geiping et al. 2025.

What can mislead:
- A limit taken from the iterations shown makes the last distance zero by construction. Hence the extra ones.
- A small step is not a small distance: a slow drift has both a small step and a residual. Read the rate beside it.
- Where the limit is the origin every step is large beside what is left; where the norm grows without bound every step is
  small beside it. The verdict `growing` and the cosine tell the second.
- A model that is told the number of its iteration applies another map each time; F is then the next one.
- The whole state has one rate only if one part of it is the slowest all the way. Where an answer spreads along the positions
  the early ones contract for long and slowly, the late ones catch up fast: look at the positions' own rates. That of a late
  position may be all catching up. The slowest position's is the one to hold against the Jacobian's spectral radius.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from loopscope import drawing
from loopscope.approach import CLEAR, Approach, approach
from loopscope.drawing import Panel, number, percent
from loopscope.driver import Looped, primary, step_at
from loopscope.errors import LoopscopeError, LoopscopeWarning
from loopscope.finding import Finding, Verdict
from loopscope.recorder import resume
from loopscope.run import Run
from loopscope.states import States

TITLE, PLACE = "Convergence", 10
SETTLED, PARTLY, GROWTH, STEADY = 0.99, 0.1, 1.1, 0.9
_FEWEST = 8  # extra iterations that say something about a limit


class Motion(Verdict):
    """Where the states go."""

    settled = "The states settle: nearly every position has stopped moving within the iterations shown."
    late = "The states settle, but some positions only after the iterations shown."
    partly = "The states settle in part: some positions stop moving, others go on."
    moving = "The states are still moving: hardly a position has stopped."
    growing = "The states grow: their norm goes on rising, and there is no limit."


@dataclass(frozen=True)
class Convergence(Finding):
    """Where a loop's states go."""

    verdict: Motion
    state: Approach
    sites: tuple[Approach, ...]
    """The recorded sites that were asked for."""
    limit: int
    """The k of the state that stands for the limit."""
    extra: int
    """Iterations beyond those shown."""
    how: str
    """How the limit was taken: a sentence."""
    overflow: int | None
    """The k from which on the extra iterations held NaN or infinity."""
    tolerance: float
    """A position has stopped when its relative step stays below this."""
    settled_threshold: float = SETTLED
    """The verdict is `settled` or `late` from this fraction of positions on ..."""
    partly_threshold: float = PARTLY
    """... and `partly` from this one."""
    growth_threshold: float = GROWTH
    """The verdict is `growing` where the norm rises by this factor over the extra iterations ..."""
    steady_threshold: float = STEADY
    """... and the steps fall no lower than by this one."""
    clearance: float = CLEAR
    """Rates are read where the distance is this many times the floor, or more."""

    def summary(self) -> str:
        s = self.state
        lines = [
            self.verdict.sentence,
            f"{percent(_last(s.share))} of the positions are settled by the last iteration shown and {percent(s.settled_end)} "
            f"by the end of {self.extra} more (relative step below {self.tolerance:g} from then on).",
            f"{s.rate.sentence} {_positions(s)}",
            f"{self.how} Its residual is {number(s.residual)} in the mean and {number(s.residual_max)} at most.",
            f"Thresholds: settled from {self.settled_threshold:g} of the positions on, in part from {self.partly_threshold:g}; "
            f"growing if the norm rises {self.growth_threshold:g}-fold while steps keep {self.steady_threshold:g} of their size; "
            f"rates are fitted from {self.clearance:g} times the floor upwards.",
        ]
        for t in self.sites:
            lines.append(
                f"{t.site}: {percent(_last(t.share))} settled, residual {number(t.residual)}. {t.rate.sentence}"
            )
        return " ".join(lines)


def measure(
    run: Run, *, sites: Sequence[str] | None = None, extra: int | None = None, tolerance: float = 1e-3
) -> Convergence:
    """Where the states of a run go, against a limit from beyond the run.

    Arguments:
        sites: recorded sites to measure besides the state.
        extra: iterations beyond those shown; None: as many as the run has, 32 at least.
        tolerance: relative step below which a position stands still.
    """
    run.require_finite()
    if not run.origin.get("whole", True):
        raise LoopscopeError(
            f"convergence needs whole states, but this run kept only a part of them (keep={run.origin['keep']}). "
            "Record again without keep=."
        )
    if extra is not None and extra < _FEWEST:
        raise LoopscopeError(
            f"extra must be {_FEWEST} iterations or more to say anything about a limit, but is {extra}."
        )
    if not tolerance > 0:
        raise LoopscopeError(f"tolerance must be a relative step above 0, but is {tolerance!r}. Try 1e-3.")
    names = [sites] if isinstance(sites, str) else list(sites or ())
    for site in names:
        if not isinstance(run[site], States):
            raise LoopscopeError(
                f"'{site}' is called outside the loop, so it can't converge. Name a site inside it."
            )
    after = _after(run, max(32, run.iterations) if extra is None else extra, by_hand=not names)
    trace = approach(after.states["state"], after.shown, after.limit, tolerance)
    return Convergence(
        verdict=_verdict(trace, after.overflow),
        state=trace,
        sites=tuple(approach(after.states[s], after.shown - 1, after.limit - 1, tolerance) for s in names),
        limit=after.limit,
        extra=after.limit - after.shown,
        how=after.how,
        overflow=after.overflow,
        tolerance=tolerance,
    )


class _After(NamedTuple):
    """The run with what comes after it."""

    states: dict[str, States]
    shown: int
    """The last k to show."""
    limit: int
    """The k of the limit; one more state is there, for its residual."""
    how: str
    overflow: int | None = None


def _after(run: Run, extra: int, by_hand: bool) -> _After:
    """The run and its extra iterations; where they can't be had, the run with a part of it spent on the limit."""
    n, goal = run.iterations, run.iterations + extra
    try:
        reader = run.reader
    except LoopscopeError:
        return _within(run, "The run was loaded without its model")
    if not isinstance(reader.model, Looped):
        return _within(run, "A module wrapped by its body can't be iterated on")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoopscopeWarning)  # of NaN: the verdict says it
        later = resume(reader.model, run, goal + 1)
    states = {name: later[name] for name in later.names}
    how = f"The limit is state {goal}, {extra} iterations beyond those shown."
    if later.iterations <= goal and later.nonfinite() is None:
        if not by_hand:  # sites are recorded by a loop, and this one is over
            return _within(run, "The loop ends by itself")
        states["state"] = _by_hand(later, goal + 1)
        how += f" The loop itself ends after {later.iterations}, when every position has halted; the map was applied on."
    first = (k for k in states["state"].iterations if not states["state"][k].isfinite().all())
    overflow = next(first, None)
    if overflow is not None:
        if overflow < n + 3:
            return _within(run, "The next iterations overflow")
        how = f"The limit is state {overflow - 2}: the extra iterations overflow at state {overflow}."
        return _After(states, n, overflow - 2, how, overflow)
    how += " The edits were not made again in them." if run.origin.get("edits") else ""
    return _After(states, n, goal, how)


def _by_hand(run: Run, iterations: int) -> States:
    """The states of the map applied on, past the iteration at which the loop ends because every position has halted."""
    model, context, state = run.reader.model, run.reader.context, run.state(run.iterations)
    values = dict(run.states.items())
    with torch.no_grad():
        for t in range(run.iterations, iterations):
            state = step_at(model, state, context, t)
            values[(t + 1,)] = primary(state)
    return States("state", values, run.states.axes, iterations + 1)


def _within(run: Run, why: str) -> _After:
    """The limit from the run itself."""
    n = run.iterations
    spare = max(2, math.ceil(n / 4))
    if n - spare < 2:
        raise LoopscopeError(
            f"{why}, so the limit must come from the run itself, which needs 4 iterations or more, but it has {n}. Record more."
        )
    how = f"{why}, so the limit is state {n - 1} of the run itself, and its last {spare} iterations are not shown."
    return _After({name: run[name] for name in run.names}, n - spare, n - 1, how)


def _verdict(trace: Approach, overflow: int | None) -> Motion:
    if overflow is not None or (trace.growth >= GROWTH and trace.steadiness >= STEADY):
        return Motion.growing
    if trace.settled_end >= SETTLED:
        return Motion.settled if _last(trace.share) >= SETTLED else Motion.late
    return Motion.partly if trace.settled_end >= PARTLY else Motion.moving


def _positions(t: Approach) -> str:
    known = int((~t.rate_by_position.isnan()).sum())
    if not known:
        return "No position by itself has one either."
    place = int(t.rate_by_position.nan_to_num(-1).argmax())
    return (
        f"By themselves {known} of {len(t.rate_by_position)} positions have a rate; the slowest, position {place}, contracts by "
        f"{t.slowest:.3g} per iteration."
    )


def _last(values: Tensor) -> float:
    return values[-1].item()


def headline(found: Convergence) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    t = found.state
    if t.rate.points:
        return f"{t.rate.value:.3g} per iteration", f"contraction rate. {found.verdict.sentence}"
    if t.slowest == t.slowest:
        return (
            f"{t.slowest:.3g} per iteration",
            f"contraction rate of the slowest position. {found.verdict.sentence}",
        )
    return found.verdict.name, found.verdict.sentence


def draw(found: Convergence) -> Any:
    """Distance to the limit and step size, by iteration."""
    t = found.state
    figure = drawing.empty(
        "Distance to the limit and step size, by iteration", "iterations run", "Euclidean norm"
    )
    k = list(range(t.first, t.first + len(t.whole)))
    figure.add_scatter(
        x=k,
        y=_positive(t.whole),
        name="distance to the limit (rms)",
        line={"color": drawing.BLUE, "width": 3},
    )
    figure.add_scatter(
        x=k[1:],
        y=_positive(t.step.mean(1)),
        name="step just made (mean)",
        line={"color": drawing.ORANGE, "width": 2},
    )
    if t.slowest == t.slowest and t.distance.shape[1] > 1:
        p = int(t.rate_by_position.nan_to_num(-1).argmax())
        name = f"distance at position {p}, the slowest (mean)"
        figure.add_scatter(
            x=k,
            y=_positive(t.distance[:, p]),
            name=name,
            line={"color": drawing.SKY, "width": 2, "dash": "dash"},
        )
    for site, colour in zip(found.sites, drawing.COLOURS[2:] * len(found.sites), strict=False):
        own = list(range(site.first, site.first + len(site.whole)))
        name = f"{drawing.label(site.site)}: distance"
        figure.add_scatter(x=own, y=_positive(site.whole), name=name, line={"color": colour, "width": 2})
    if t.rate.points:
        x = [t.rate.first, t.rate.last]
        y = [t.rate.start * t.rate.value ** (k - t.rate.first) for k in x]
        line = {"color": drawing.RED, "width": 2, "dash": "dot"}
        figure.add_scatter(x=x, y=y, name=f"fit: × {t.rate.value:.3g} per iteration", mode="lines", line=line)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    return figure


def panels(found: Convergence) -> list[Panel]:
    """The finding as a report shows it."""
    t = found.state
    share, cosine = percent(_last(t.share)), [number(t.cosine[k].mean().item(), 3) for k in (0, -1)]
    return [
        Panel(
            "How far the state is from its limit",
            draw(found),
            f"{t.rate.sentence} {_positions(t)} One more iteration moves the limit itself by {number(t.residual, 2)} of its norm "
            f"in the mean, {number(t.residual_max, 2)} at most.",
            "On this logarithmic scale a straight fall is a steady contraction, and a level stretch is standing still, or the "
            f"end of the numbers' precision. {found.how}",
        ),
        Panel(
            "Where the state still moves",
            _map(t),
            _moving(t, found.tolerance),
            "Each cell is one iteration at one position, the mean over examples: dark is still, and -3 is a step of a "
            "thousandth of the state's norm. Time runs downwards.",
        ),
        Panel(
            "How much has settled",
            _shares(t),
            f"{share} of the positions are settled by the last iteration shown; the mean cosine to the limit goes from "
            f"{cosine[0]} before the loop to {cosine[1]}.",
            f"Settled from an iteration on: no later relative step reaches {found.tolerance:g}, those of the {found.extra} extra "
            "iterations included. At cosine 1 only the length can still change.",
        ),
    ]


def _map(t: Approach) -> Any:
    z = t.relative_step.clamp(1e-12, 1e12).log10()
    return drawing.map_of(
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
    figure = drawing.empty(
        "Settled positions, and cosine to the limit", "iterations run", "fraction | cosine", 320
    )
    k = list(range(t.first, t.first + len(t.whole)))
    line = {"color": drawing.GREEN, "width": 3, "shape": "hv"}
    figure.add_scatter(x=k[:-1], y=t.share.tolist(), name="fraction of positions settled", line=line)
    line = {"color": drawing.BLUE, "width": 2, "dash": "dash"}
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
        f"Half of the examples have come to rest at position {first} from iteration {known[0] + t.first} on{then}{rest} "
        f"(relative step below {tolerance:g})."
    )


def _positive(values: Tensor) -> list[float | None]:
    """For a logarithmic axis, which has no place for zero."""
    return [v if v > 0 and math.isfinite(v) else None for v in values.tolist()]
