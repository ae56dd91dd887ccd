"""Whether small differences die out or grow: spectral radius, Lyapunov exponents and fitted rate of
each example, their agreement, and the verdict."""

from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from loopscope.common.arguments import Count, Meaning, NotNegative, Positive, PositiveCount, SmallSeed
from loopscope.common.evidence import Estimate, Evidence, estimate, share_estimate
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.dynamics.limit_point import Limit, continue_to_limit
from loopscope.dynamics.outcome import EXAMPLES, MARGIN, decided, nears_point, outcomes
from loopscope.dynamics.point_spectrum import LONG
from loopscope.maths import exponents as lyapunov_exponents
from loopscope.runs.run import Run
from loopscope.runs.run_mask import require_counted, rows_that_count

from .agreement import agreement_of
from .jacobian import jacobians
from .result import StabilityResult
from .verdict import verdict_of, verdict_over

_Several = Annotated[int, Ge(10), Meaning("a whole number, 10 or more to average over")]
TOLERANCE = 0.05
SMALL_STATE = 16
"""Numbers per state up to which thousands of iterations are cheap."""
LARGE_STATE = 256
"""Backward gain and input sensitivity of states of more numbers are computed for 2 examples, and of
states of more than `point_spectrum.LONG` for one."""


# It is long because it lists every option and every field of the result.
def measure(
    run: Run,
    *,
    examples: PositiveCount = EXAMPLES,
    count: PositiveCount = 8,
    exponents_count: PositiveCount = 1,
    iterations: _Several | None = None,
    gain: PositiveCount | None = None,
    gains: PositiveCount | None = None,
    extra: Count | None = None,
    margin: NotNegative = MARGIN,
    tolerance: Positive = TOLERANCE,
    products: PositiveCount | None = None,
    double: bool = True,
    seed: SmallSeed = 0,
) -> StabilityResult:
    """What becomes of small differences in the loop of a run.

    Arguments:
        examples: how many of the run's examples that count somewhere, from the first on.
        count: eigenvalues.
        exponents_count: Lyapunov exponents.
        iterations: over which exponents are averaged; None: 2,000 for states of 16 numbers or
            fewer, else 64.
        gain: iterations of the backward gain, from the run's first state; None: the run's own, 32
            at most.
        gains: for how many examples backward gain and input sensitivity are computed; None: all, or
            2 where a state has more than 256 numbers, 1 where it has more than 4,096.
        extra: iterations beyond the run in which it may reach its fixed point; None: as many as it
            has, 96 at least.
        margin, tolerance: thresholds; see the result.
        products: with the Jacobian of one example, for its eigenvalues, at most, about: more where
            a spectral radius is left unclear. None: 2,000, or 300 of states of more than 4,096
            numbers.
        double: compute in double precision where the model allows it.
        seed: of the vectors that searches start from.

    Raises:
        LoopscopeError: there is no example, eigenvalue or exponent, or fewer than 10 iterations.
    """
    require_counted(run)
    counted = rows_that_count(run)[:examples]
    rows = range(len(counted))
    loop, limit = continue_to_limit(run, counted, max(96, run.iterations) if extra is None else extra, double)
    width = limit.states.shape[2]
    iterations = (2000 if width <= SMALL_STATE else 64) if iterations is None else iterations
    gain = min(32, limit.run_end - limit.first) if gain is None else gain
    gains = affordable_gains(len(counted), width) if gains is None else gains
    at_fixed_point = tuple(nears_point(limit, row) for row in rows)
    local = jacobians(
        loop, limit, at_fixed_point, count=count, gain=gain, gains=gains, products=products, seed=seed
    )
    known = decided(local.radius, local.radius_error, margin)
    ends = outcomes(limit, torch.where(torch.tensor(at_fixed_point), known, torch.nan), margin)
    exponents, errors = _exponents(loop, limit, iterations, exponents_count, seed=seed)
    rates, invariant = [limit.rate(row) for row in rows], loop.is_time_invariant
    verdicts = tuple(
        verdict_of(
            ends[row],
            radius=float(local.radius[row]),
            radius_error=float(local.radius_error[row]),
            singular=float(local.singular_value[row]),
            exponent=float(exponents[row, 0]),
            error=float(errors[row, 0].nan_to_num(0.0)),
            margin=margin,
            iterations=iterations,
            comparable=invariant,
        )
        for row in rows
    )
    verdict, evidence = verdict_over(verdicts)
    comparable = [row for row in rows if ends[row] in ("converged", "approaching", "unstable") and invariant]
    comparison = agreement_of(comparable, local, exponents, errors, rates=rates, tolerance=tolerance)
    result = StabilityResult(
        verdict=verdict,
        evidence=evidence,
        verdicts=verdicts,
        rows=tuple(counted),
        outcomes=ends,
        agreement=comparison.verdict,
        agreement_sentence=comparison.sentence,
        disagreement=comparison.gap,
        **vars(local),
        exponents=exponents,
        exponents_error=errors,
        rate=torch.tensor([rate.value for rate in rates]),
        rate_error=torch.tensor([rate.error for rate in rates]),
        at_fixed_point=at_fixed_point,
        iteration_index=not invariant,
        iterations=iterations,
        gain_iterations=gain,
        how=limit.how,
        margin=margin,
        tolerance=tolerance,
    )
    return replace(result, evidence=_with_estimates(evidence, result))


def affordable_gains(examples: int, numbers: int) -> int:
    """For how many examples backward gain and input sensitivity are computed by default.

    Arguments:
        numbers: of a state.
    """
    return examples if numbers <= LARGE_STATE else min(examples, 2 if numbers <= LONG else 1)


def _with_estimates(evidence: Evidence, result: StabilityResult) -> Evidence:
    """The evidence with medians over examples, at fixed points and along all trajectories, and the
    share of examples that the first are of: in their names, counts would keep those of two runs
    apart."""
    here = torch.tensor(result.at_fixed_point)
    where = ", of the last iteration's map" if result.iteration_index else ""
    where += ", median of examples at one or near it"
    named = (
        (f"spectral radius at the fixed point{where}", result.radius[here]),
        (f"largest singular value at the fixed point{where}", result.singular_value[here]),
        ("largest Lyapunov exponent in nats per iteration, median", result.exponents[:, 0]),
    )
    medians = [_median(name, values) for name, values in named if len(values[~values.isnan()])]
    share = share_estimate("share of examples at a fixed point or near one", int(here.sum()), len(here))
    return replace(evidence, estimates=(*medians, share))


def _median(name: str, values: Float[Tensor, " example"]) -> Estimate:
    known = values[~values.isnan()]
    return estimate(name, lambda draw: float(known[draw].quantile(0.5)), len(known))


def _exponents(
    loop: IterationMap, limit: Limit, iterations: int, count: int, *, seed: int
) -> tuple[Float[Tensor, "example exponent"], Float[Tensor, "example exponent"]]:
    """Lyapunov exponents and their errors, from where the continued run ends, so that they are of
    the motion there; a quarter of the iterations before that turns the differences."""
    start = torch.nan_to_num(limit.states[-1], 0.0, 0.0, 0.0)
    start = torch.where(limit.diverges[:, None].to(start.device), torch.zeros_like(start), start)
    result = lyapunov_exponents(loop, start, iterations, count, transient=iterations // 4, seed=seed)
    diverges = limit.diverges[:, None]
    return torch.where(diverges, torch.nan, result.values), torch.where(diverges, torch.nan, result.error)
