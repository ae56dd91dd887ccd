"""The measurement: convergence of a run. See the package for the question and its references."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from loopscope.common.errors import LoopscopeError, LoopscopeWarning
from loopscope.common.result import AnalysisResult, Verdict
from loopscope.common.text import number, percent
from loopscope.core.looped_model import Looped, step_at
from loopscope.core.state_tree import primary
from loopscope.core.states import States
from loopscope.recorder.resume_run import resume
from loopscope.runs.run import Run

from .distance_to_limit import CLEAR, Approach, approach

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
class Convergence(AnalysisResult):
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
            f"{percent(_last(s.share))} of the positions are settled by the last iteration shown and "
            f"{percent(s.settled_end)} by the end of {self.extra} more (relative step below "
            f"{self.tolerance:g} from then on).",
            f"{s.rate.sentence} {_positions(s)}",
            f"{self.how} Its residual is {number(s.residual)} in the mean and {number(s.residual_max)} at "
            "most.",
            f"Thresholds: settled from {self.settled_threshold:g} of the positions on, in part from "
            f"{self.partly_threshold:g}; growing if the norm rises {self.growth_threshold:g}-fold while "
            f"steps keep {self.steady_threshold:g} of their size; rates are fitted from {self.clearance:g} "
            "times the floor upwards.",
        ]
        for t in self.sites:
            lines.append(
                f"{t.site}: {percent(_last(t.share))} settled, residual {number(t.residual)}. "
                f"{t.rate.sentence}"
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
            "convergence needs whole states, but this run kept only a part of them "
            f"(keep={run.origin['keep']}). Record again without keep=."
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
    """The run and its extra iterations; where they can't be had, the run with a part of it spent on
    the limit."""
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
    if later.iterations <= goal and later.first_nonfinite() is None:
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
    """The states of the map applied on, past the iteration at which the loop ends because every
    position has halted."""
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
            f"{why}, so the limit must come from the run itself, which needs 4 iterations or more, but it "
            f"has {n}. Record more."
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
        f"By themselves {known} of {len(t.rate_by_position)} positions have a rate; the slowest, position "
        f"{place}, contracts by {t.slowest:.3g} per iteration."
    )


def _last(values: Tensor) -> float:
    return values[-1].item()
