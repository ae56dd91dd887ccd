"""Distances to the limit, settled positions and contraction rates of the state and of recorded
sites."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.arguments import Count, Positive
from loopscope.common.errors import LoopscopeError
from loopscope.common.evidence import NEARLY_ALL, Estimate, Evidence, by_bootstrap, estimate, with_unseen
from loopscope.common.fate import Fate, fates_of_examples
from loopscope.common.text import number, percent
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.core.states import States
from loopscope.maths.late_motion import GROWTH, LATE_MOTIONS, STEADY, LateMotion
from loopscope.recorder.extend import extra_of
from loopscope.runs.run import Run
from loopscope.runs.run_mask import mask_at

from .extra_iterations import with_extra_iterations
from .rates import CLEARANCE, Rates
from .site_convergence import SiteConvergence, site_convergence

RATE = "fitted contraction rate of the rms distance to the limit, over examples and positions,"
WITHIN = "share of positions settled by the last iteration of the run"
SETTLED_END = "share of positions settled after the extra iterations"
APPROACHING = "share of positions that approach a limit"
SLOWING = "share of positions whose steps shrink so that their sizes alone show no limit"
SETTLED, PARTLY = NEARLY_ALL, 1 - NEARLY_ALL
RATES_DIFFER = 1.05
"""Two rates differ if one is this many times the other."""
_MIN_EXTRA = 8
"""Fewer extra iterations don't give a limit."""


class ConvergenceVerdict(Verdict):
    """Whether the states converge. "Nearly every position" is SETTLED of them or more."""

    settled = "The states converge: nearly every position has stopped moving within the run."
    late = (
        "The states converge at nearly every position, but for that they need more iterations than the run "
        "has."
    )
    approaching = (
        "The states approach a limit: the steps of nearly every position shrink in such a way that their sum "
        "is finite, but many aren't small yet."
    )
    slowing = (
        "The states don't settle within these iterations: the steps of nearly every position shrink, but so "
        "slowly or unevenly that their sizes alone show no limit."
    )
    kept = (
        "The states stop, but many only because the model keeps what has halted: where the loop would go by "
        "itself isn't known."
    )
    partly = "The states converge in part: some positions stop or approach a limit, others don't."
    moving = (
        "The states don't converge within these iterations: nearly every position keeps moving, or slows "
        "down without showing a limit."
    )
    growing = (
        "The states grow: their norm, or their distance from where they began, keeps rising, and there is "
        "no limit."
    )
    unresolved = (
        "The precision of the states can't tell whether they converge: their steps are no more than "
        "rounding, which slow motion would be lost in too."
    )
    unclear = UNCLEAR


FATE_OF: dict[LateMotion, Fate] = {
    LateMotion.rests: "converges",
    LateMotion.stops: "halts",
    LateMotion.approaches: "approaches",
    LateMotion.slows: "unclear",
    LateMotion.moves: "moves",
    LateMotion.grows: "grows",
    LateMotion.unresolved: "unclear",
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
    rate_by_example: Float[Tensor, " example"]
    """Contraction factor per iteration of each example's rms distance over its positions; NaN where
    none can be fitted."""
    limit_note: str
    """How the limit was taken, as a sentence."""
    overflow: int | None
    """The first k of the extra iterations that holds NaN or infinity."""
    tolerance: float
    """A position has settled when its step stays below this part of its norm and of the range that
    it covers (of a norm below a tenth of the range, that tenth)."""
    settled_threshold: float = SETTLED
    """"Nearly every position" is this fraction or more ..."""
    partly_threshold: float = PARTLY
    """... and hardly any position is less than this one."""
    growth_threshold: float = GROWTH
    """A position grows if its norm rises by this factor from the second quarter to the last ..."""
    steady_threshold: float = STEADY
    """... while its steps keep this part of their size from quarter to quarter."""
    halts: bool = False
    """Whether the model halts, and may keep a state from there."""
    clearance: float = CLEARANCE
    """Rates are fitted where the distance is at least this many times the floor."""

    @property
    def fates(self) -> dict[int, Fate]:
        """Where each example goes: it converges if all of its positions have stopped moving; see
        `loopscope.common.fate.fate_of_positions`."""
        return fates_of_examples(list(self.fates_by_position.values()))

    @property
    def fates_by_position(self) -> dict[int, list[Fate | None]]:
        return {
            row: [None if code < 0 else self._fate(LATE_MOTIONS[code]) for code in codes]
            for row, codes in enumerate(self.state.late_motion.tolist())
        }

    def _fate(self, motion: LateMotion) -> Fate:
        stopped = motion is LateMotion.stops and not self.halts
        return FATE_OF[LateMotion.rests if stopped else motion]

    @property
    def fate_iterations(self) -> int:
        return self.limit

    @property
    def fate_criterion(self) -> str:
        return (
            f"steps below {self.tolerance:g} of norm and range, or how they shrink, in the last quarter of "
            f"{self.limit} iterations"
        )

    @property
    def sentence(self) -> str:
        """The verdict, and how many positions stop at once: what is kept where it halts does."""
        total = int((self.state.late_motion >= 0).sum())
        if not self.kept:
            return super().sentence
        why = (
            ": the model keeps their state from where they halt."
            if self.halts
            else ", as where a model keeps what has halted, or where one iteration reaches the limit."
        )
        if self.verdict is ConvergenceVerdict.kept:
            why = "."
        but = "But " if why != "." else ""
        return (
            f"{super().sentence} {but}{self.kept} of {total} positions ({percent(self.kept / total)}) stop "
            f"at once, from a full step to none at all{why}"
        )

    @property
    def kept(self) -> int:
        return self.state.frozen

    @property
    def target(self) -> str:
        """What distances are to: a limit only if the states converge."""
        limit = self.verdict in (ConvergenceVerdict.settled, ConvergenceVerdict.late)
        return "the limit" if limit else f"state {self.limit}"

    @property
    def rate_sentence(self) -> str:
        """The contraction rate with its interval over examples, or why there is none."""
        rate = self.state.rate
        if not rate.points:
            some, reason = self.state.slowest_position is not None, rate.sentence.partition(": ")[2]
            single = f"No single contraction rate fits the rms distance over all positions: {reason}"
            return single if some else rate.sentence
        interval = next((e for e in self.evidence.estimates if e.name == RATE), None)
        value = f"{rate.value:.3g}" if interval is None else interval.text
        return (
            f"The {RATE} is {value} per iteration (fitted to states {rate.first} to {rate.last}, R² "
            f"{rate.r2:.3f})."
        )

    @property
    def example_rates_sentence(self) -> str:
        """The rates of the examples by themselves, and why that of all of them is slower than
        most."""
        known = self.rate_by_example[~self.rate_by_example.isnan()]
        total = int((self.state.late_motion >= 0).any(1).sum())
        if len(known) < 2:
            return ""
        middle, slowest, overall = float(known.quantile(0.5)), float(known.max()), self.state.rate.value
        text = (
            f"Fitted to each example by itself, {len(known)} of {total} have a rate: median {middle:.3g}, "
            f"the slowest {slowest:.3g}."
        )
        differs = overall > RATES_DIFFER * middle and slowest * RATES_DIFFER > overall
        if not differs or len(known) < total / 2:
            return text
        return (
            f"{text.removesuffix('.')}. The rate over all is slower than the median: the faster an example "
            "converges, the less it adds to the distance that is fitted."
        )

    @property
    def limit_sentence(self) -> str:
        """How far one more iteration moves the last state; it is a limit only if they converge."""
        s = self.state
        moved = (
            f"the limit, state {self.limit},"
            if self.target == "the limit"
            else f"state {self.limit}, which is no limit,"
        )
        return (
            f"One more iteration moves {moved} by {number(s.residual, 2)} of its norm on average "
            f"({number(s.residual_of_range, 2)} of the range covered) and by {number(s.residual_max, 2)} at "
            "most."
        )

    def summary(self) -> str:
        s, shares = self.state, {e.name: e.share_text for e in self.evidence.estimates if e.name != RATE}
        lines = [
            self.sentence,
            f"Of the positions {shares[WITHIN]} have settled by the last iteration of the run and "
            f"{shares[SETTLED_END]} after {self.extra} more (steps below {self.tolerance:g} of norm and "
            "range).",
            f"{shares[APPROACHING]} approach a limit: their steps shrink so that their sum is finite."
            if APPROACHING in shares
            else "",
            f"The steps of {shares[SLOWING]} shrink, but so slowly or unevenly that they needn't ever end."
            if SLOWING in shares
            else "",
            f"{percent(s.undecided_end)} move so little that rest can't be told from slow motion."
            if s.undecided_end
            else "",
            f"{self.rate_sentence} {self.example_rates_sentence}",
            s.position_rates_sentence,
            f"{self.limit_note} {self.limit_sentence}",
            f'"Nearly every" means {percent(self.settled_threshold)} or more.',
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
        extra: iterations beyond the run; None: as many as the run has, 64 at least.
        tolerance: relative step, of norm and range, below which a position has settled.

    Raises:
        LoopscopeError: the states aren't finite or whole, a site wasn't recorded in the loop, or an
            option is out of range.
    """
    run.require_finite()
    names = [sites] if isinstance(sites, str) else list(sites or ())
    _check(run, names, extra)
    extended = with_extra_iterations(run, extra_of(run, extra), names)
    end, limit, states = extended.end, extended.limit, extended.states
    masks = {name: mask_at(run, run[name]) for name in ("state", *names)}
    state, rates, within = site_convergence(
        states["state"], end, limit, tolerance, mask=masks["state"], last=extended.last
    )
    verdict, evidence = verdict_and_evidence(state, rates, within, halts=run.halting is not None)
    return ConvergenceResult(
        verdict=verdict,
        evidence=evidence,
        state=state,
        sites=tuple(
            site_convergence(states[name], end - 1, limit - 1, tolerance, mask=masks[name])[0]
            for name in names
        ),
        limit=limit,
        rate_by_example=rates.by_example(),
        extra=limit - end,
        limit_note=extended.note,
        overflow=extended.overflow,
        tolerance=tolerance,
        halts=run.halting is not None,
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


def verdict_and_evidence(
    state: SiteConvergence, rates: Rates, within: Int[Tensor, " example"], *, halts: bool
) -> tuple[ConvergenceVerdict, Evidence]:
    """The verdict by bootstrap over the examples that count, with the shares and the rate.

    Arguments:
        rates: of the distance to the limit.
        within: how many positions of each example have settled by the last iteration of the run.
        halts: whether the model halts.
    """
    motions = state.late_motion
    rows = (motions >= 0).any(1).nonzero()[:, 0]
    columns = [(motions == code).sum(1) for code in range(len(LATE_MOTIONS))]
    counts = torch.stack([*columns, within], 1)[rows].double()
    total = (motions >= 0).sum(1)[rows]

    def shares(draw: Tensor) -> list[float]:
        return (counts[draw].sum(0) / total[draw].sum()).tolist()

    def share(name: str, *codes: int) -> Estimate:
        drawn = estimate(name, lambda draw: sum(shares(draw)[code] for code in codes), len(rows))
        return with_unseen(drawn, len(rows))

    verdict, evidence = by_bootstrap(
        lambda draw: verdict_of(*shares(draw), halts=halts), len(rows), unclear=ConvergenceVerdict.unclear
    )
    estimates = [share(WITHIN, len(LATE_MOTIONS)), share(SETTLED_END, 0, 1)]
    optional = ((APPROACHING, LateMotion.approaches), (SLOWING, LateMotion.slows))
    codes = {name: LATE_MOTIONS.index(motion) for name, motion in optional}
    estimates += [share(name, code) for name, code in codes.items() if bool(counts[:, code].any())]
    if state.rate.points:
        estimates.append(estimate(RATE, lambda draw: rates.overall(rows[draw]).value, len(rows)))
    return verdict, replace(evidence, estimates=tuple(estimates))


def verdict_of(
    rests: float,
    stops: float,
    approaches: float,
    slows: float,
    moves: float,
    grows: float,
    unresolved: float,
    within: float,
    *,
    halts: bool = False,
) -> ConvergenceVerdict:
    """The verdict on shares of positions by `LateMotion`, and of those settled within the run.

    Arguments:
        halts: whether the model halts: then what stops at once doesn't converge.
    """
    if not math.isfinite(rests + stops + approaches + slows + moves + grows + unresolved):
        return ConvergenceVerdict.unresolved
    slack = 1e-9  # of sums of shares
    calm, stopped = rests + stops + approaches + slack, rests + stops + slack
    if _amount(calm) != _amount(calm + unresolved):
        return ConvergenceVerdict.unresolved
    if halts and _amount(calm) > _amount(calm - stops):
        return ConvergenceVerdict.kept
    if calm < PARTLY and slows + calm >= SETTLED:
        return ConvergenceVerdict.slowing
    if calm < PARTLY:
        return ConvergenceVerdict.growing if grows + slack >= SETTLED else ConvergenceVerdict.moving
    if calm < SETTLED:
        return ConvergenceVerdict.partly
    if stopped < SETTLED:
        known = stopped + unresolved < SETTLED
        return ConvergenceVerdict.approaching if known else ConvergenceVerdict.unresolved
    return ConvergenceVerdict.settled if within + slack >= SETTLED else ConvergenceVerdict.late


def _amount(share: float) -> int:
    return 0 if share < PARTLY else 1 if share < SETTLED else 2
