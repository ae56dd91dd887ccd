"""Distances to the limit, settled positions and contraction rates of the state and of recorded
sites."""

from collections.abc import Sequence
from dataclasses import dataclass

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.arguments import Count, Positive
from loopscope.common.errors import LoopscopeError
from loopscope.common.fate import Fate
from loopscope.common.text import number, percent
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.core.states import States
from loopscope.runs.run import Run
from loopscope.runs.run_mask import mask_at

from .extra_iterations import with_extra_iterations
from .site_convergence import CLEARANCE, SiteConvergence, site_convergence

SETTLED, PARTLY, GROWTH, STEADY = 0.99, 0.1, 1.1, 0.9
_EXPLODING = 2.0
"""Steps that grow by this factor lead away whatever the norm is."""
_MIN_EXTRA = 8
"""Fewer extra iterations don't give a limit."""


class ConvergenceVerdict(Verdict):
    """Whether the states converge."""

    settled = "The states converge: nearly every position has stopped moving within the run."
    late = "The states converge, but some positions only after the iterations of the run."
    partly = "The states converge in part: some positions stop moving, others keep moving."
    moving = "The states don't converge: hardly any position has stopped moving."
    growing = (
        "The states grow: their norm, or their distance from where they began, keeps rising, and there is "
        "no limit."
    )
    unresolved = (
        "The precision of the states can't tell whether they converge: their steps are no more than "
        "rounding, which slow motion would be lost in too."
    )
    unclear = UNCLEAR


_FATES: dict[ConvergenceVerdict, Fate] = {
    ConvergenceVerdict.settled: "converges",
    ConvergenceVerdict.late: "converges",
    ConvergenceVerdict.growing: "grows",
}


@dataclass(frozen=True)
class ConvergenceResult(AnalysisResult):
    """How a loop's states converge."""

    verdict: ConvergenceVerdict
    state: SiteConvergence
    sites: tuple[SiteConvergence, ...]
    """The recorded sites that were named."""
    limit: int
    """The k of the state that is taken as the limit."""
    extra: int
    """Iterations from the last k of the result to the limit."""
    limit_note: str
    """How the limit was taken, as a sentence."""
    overflow: int | None
    """The first k of the extra iterations that holds NaN or infinity."""
    tolerance: float
    """A position has settled when its step stays below this part of its norm and of the range that
    it covers (of a norm below a tenth of the range, that tenth)."""
    settled_threshold: float = SETTLED
    """The verdict is `settled` or `late` from this fraction of positions on ..."""
    partly_threshold: float = PARTLY
    """... and `partly` from this one."""
    growth_threshold: float = GROWTH
    """The verdict is `growing` where the norm rises by this factor over the extra iterations ..."""
    steady_threshold: float = STEADY
    """... and the steps fall no lower than by this one."""
    clearance: float = CLEARANCE
    """Rates are fitted where the distance is at least this many times the floor."""

    @property
    def fate(self) -> Fate:
        if self.verdict is ConvergenceVerdict.moving:  # with a rate it is on its way to rest
            return "unclear" if self.state.rate.points else "moves"
        return _FATES.get(self.verdict, "unclear")

    def summary(self) -> str:
        s = self.state
        lines = [
            self.sentence,
            f"{percent(s.settled_fraction[-1].item())} of the positions have settled by the last iteration "
            f"of the run and {percent(s.settled_end)} by the end of {self.extra} more (relative step below "
            f"{self.tolerance:g} of norm and range from then on).",
            f"{percent(s.undecided_end)} rest as far as their precision can tell, which is too low to tell "
            "rest from slow motion."
            if s.undecided_end
            else "",
            f"{s.rate.sentence} {s.position_rates_sentence}",
            f"{self.limit_note} Its residual is {number(s.residual)} of the norm on average "
            f"({number(s.residual_of_range)} of the range covered) and at most {number(s.residual_max)}.",
            f"Thresholds: settled from {self.settled_threshold:g} of the positions on, in part from "
            f"{self.partly_threshold:g}; growing if the norm rises {self.growth_threshold:g}-fold while "
            f"steps keep {self.steady_threshold:g} of their size; rates are fitted from {self.clearance:g} "
            "times the floor upwards.",
        ]
        for site in self.sites:
            lines.append(
                f"{site.site}: {percent(site.settled_fraction[-1].item())} settled, residual "
                f"{number(site.residual)}. {site.rate.sentence}"
            )
        return " ".join(line for line in lines if line)


def measure(
    run: Run, *, sites: Sequence[str] | None = None, extra: Count | None = None, tolerance: Positive = 1e-3
) -> ConvergenceResult:
    """Measure how the states of a run converge to a limit from beyond the run.

    Arguments:
        sites: recorded sites to measure besides the state.
        extra: iterations beyond the run; None: as many as the run has, 32 at least.
        tolerance: relative step, of norm and range, below which a position has settled.

    Raises:
        LoopscopeError: the states aren't finite or whole, a site wasn't recorded in the loop, or an
            option is out of range.
    """
    run.require_finite()
    names = [sites] if isinstance(sites, str) else list(sites or ())
    _check(run, names, extra)
    extra = max(32, run.iterations) if extra is None else extra
    extended = with_extra_iterations(run, extra, past_halting=not names)
    end, limit, states = extended.end, extended.limit, extended.states
    masks = {name: mask_at(run, run[name]) for name in ("state", *names)}
    state = site_convergence(states["state"], end, limit, tolerance, mask=masks["state"])
    return ConvergenceResult(
        verdict=_verdict(state, extended.overflow),
        state=state,
        sites=tuple(
            site_convergence(states[name], end - 1, limit - 1, tolerance, mask=masks[name]) for name in names
        ),
        limit=limit,
        extra=limit - end,
        limit_note=extended.note,
        overflow=extended.overflow,
        tolerance=tolerance,
    )


def _check(run: Run, sites: Sequence[str], extra: int | None) -> None:
    if not run.origin.get("whole", True):
        raise LoopscopeError(
            "convergence needs whole states, but this run kept only a part of them "
            f"(keep={run.origin['keep']}). Record again without keep=."
        )
    if extra is not None and extra < _MIN_EXTRA:
        raise LoopscopeError(
            f"extra must be {_MIN_EXTRA} iterations or more to give a limit, but is {extra}. Leave it out "
            "for as many as the run has."
        )
    for site in sites:
        if not isinstance(run[site], States):
            raise LoopscopeError(
                f"sites must be inside the loop to converge, but '{site}' is outside it. Name a site inside "
                "it."
            )


def _verdict(state: SiteConvergence, overflow: int | None) -> ConvergenceVerdict:
    rises = state.growth >= GROWTH and state.steadiness >= STEADY
    explodes = state.departure >= GROWTH and state.steadiness >= _EXPLODING
    if overflow is not None or rises or explodes:
        # what begins as rounding and grows is no motion of the loop
        return ConvergenceVerdict.growing if state.started >= 0.5 else ConvergenceVerdict.unresolved
    known, possible = state.settled_end, state.settled_end + state.undecided_end
    if _amount(known) is not _amount(possible):
        return ConvergenceVerdict.unresolved
    if _amount(known) is ConvergenceVerdict.settled and state.settled_fraction[-1].item() < SETTLED:
        return ConvergenceVerdict.late
    return _amount(known)


def _amount(settled: float) -> ConvergenceVerdict:
    if settled >= SETTLED:
        return ConvergenceVerdict.settled
    return ConvergenceVerdict.partly if settled >= PARTLY else ConvergenceVerdict.moving
