"""The measurement: stability of a run. See the package for the question and its references."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.common.result import AnalysisResult, Verdict
from loopscope.common.text import number
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.dynamics.limit_point import NEWTON_STEP, Limit, continue_to_limit
from loopscope.maths import backward_gain, exponents, sensitivity, singular_value, spectrum
from loopscope.maths.contraction_rate import Rate
from loopscope.runs.run import Run

MARGIN, AGREE, GROWN, VANISHED = 1e-3, 0.05, 1.0, -20.0
_SHORT = 16  # numbers per state up to which a trajectory of thousands of iterations is cheap


class Stability(Verdict):
    """What becomes of small differences."""

    stable = "The loop ends at a stable fixed point: small differences die out, at once in every direction."
    transient = "The loop ends at a stable fixed point, but small differences can grow before they die out (non-normal growth)."
    marginal = "The loop rests at a point that neither attracts nor repels: the spectral radius is 1."
    unstable = "The loop rests at an unstable fixed point: small differences grow."
    contracting = "The loop ends at no fixed point, yet small differences die out along its way, as on an attracting cycle."
    neutral = "The loop ends at no fixed point, and small differences neither die out nor grow along its way."
    expanding = "The loop ends at no fixed point, and small differences grow along its way: sensitive dependence, as in chaos."
    diverging = "The loop diverges: its states grow without bound."
    mixed = "The examples differ in what becomes of small differences."


class Agreement(Verdict):
    """Whether the three measures of contraction are one number."""

    agree = "Spectral radius, fitted rate and Lyapunov exponent agree."
    disagree = "Spectral radius, fitted rate and Lyapunov exponent disagree."
    incomparable = (
        "The loop ends at no fixed point, so spectral radius, rate and exponent measure different things."
    )


@dataclass(frozen=True)
class StabilityResult(AnalysisResult):
    """What becomes of small differences, example by example."""

    verdict: Stability
    verdicts: tuple[Stability, ...]
    """Of each example."""
    agreement: Agreement
    disagreement: float
    """Nats per iteration: the largest difference between two of the three measures beyond their
    errors; NaN if not comparable."""
    eigenvalues: Complex[Tensor, "example count"]
    """Leading ones of the Jacobian, by falling modulus."""
    radius: Float[Tensor, " example"]
    """Their largest modulus; NaN if it wasn't found."""
    radius_error: Float[Tensor, " example"]
    """What rounding can move it by; NaN where that isn't known."""
    singular_value: Float[Tensor, " example"]
    """The Jacobian's largest."""
    exponents: Float[Tensor, "example exponent"]
    """Lyapunov exponents, nats per iteration, by falling size; NaN where the trajectory
    overflows."""
    exponents_error: Float[Tensor, "example exponent"]
    rate: Float[Tensor, " example"]
    """Fitted factor per iteration by which the distance to the fixed point shrinks; NaN if there is
    none."""
    rate_error: Float[Tensor, " example"]
    backward_gain: Float[Tensor, " example"]
    """‖J_(n-1) ... J_0‖ over the run's n iterations."""
    sensitivity: Float[Tensor, " example"]
    """‖(I - J)^-1 J_e‖ at the fixed point; 0 if the loop reads no input, NaN without a fixed
    point."""
    at_fixed_point: tuple[bool, ...]
    """Whether the Jacobian is that at a fixed point, or else at the last state."""
    told: bool
    """Whether the model is told the number of its iteration."""
    iterations: int
    """Over which the exponents were averaged."""
    gain_iterations: int
    """Over which the gain was taken."""
    notes: tuple[str, ...]
    """How each example's eigenvalues were found, or why not."""
    how: str
    margin: float
    """A spectral radius this near to 1, and an exponent this near to 0, are marginal or neutral."""
    agree: float
    """The measures agree when they differ by at most this fraction of the largest, besides twice
    their errors."""

    def summary(self) -> str:
        names = [verdict.name for verdict in self.verdicts]
        lines = [self.verdict.sentence]
        if self.verdict is Stability.mixed:
            lines.append(
                "Examples: " + ", ".join(f"{names.count(n)} {n}" for n in dict.fromkeys(names)) + "."
            )
        place = (
            "at the fixed point"
            if all(self.at_fixed_point)
            else "at the last state where there is no fixed point"
        )
        first = complex(self.eigenvalues[0, 0])
        angle = abs(math.degrees(math.atan2(first.imag, first.real)))
        turn = f", turning by {number(angle)}° per iteration" if abs(first.imag) > 1e-9 else ""
        lines.append(
            f"The leading eigenvalue {place} has modulus {number(_mean(self.radius), 4)} in the mean of "
            f"{len(names)} examples{turn}; the "
            f"largest singular value is {number(_mean(self.singular_value), 4)}, the largest Lyapunov "
            f"exponent {number(_mean(self.exponents[:, 0]), 4)} ± "
            f"{number(_mean(self.exponents_error[:, 0]), 1)} nats per iteration."
        )
        three = (
            f"log radius {number(_mean(self.radius.log()), 4)}, log rate {number(_mean(self.rate.log()), 4)}"
        )
        apart = (
            f" by {number(self.disagreement)} nats per iteration"
            if self.agreement is Agreement.disagree
            else ""
        )
        said = self.agreement.sentence.replace("disagree.", f"disagree{apart}.")
        lines.append(f"{said} ({three}.)" if self.disagreement == self.disagreement else said)
        lines.append(
            f"Over {self.gain_iterations} iterations a gradient can grow "
            f"{number(_mean(self.backward_gain))}-fold on its way back; "
            f"the fixed point moves by at most {number(_mean(self.sensitivity))} per unit of input."
        )
        if self.told:
            lines.append(
                "The model is told the number of its iteration: every iteration is taken as the one after "
                "the run's last."
            )
        lines.append(
            f"{self.how} Exponents over {self.iterations} iterations. Thresholds: marginal within "
            f"{self.margin:g}; agreement within {self.agree:g}."
        )
        return " ".join(lines)


def measure(
    run: Run,
    *,
    examples: int = 2,
    count: int = 8,
    exponents_count: int = 2,
    iterations: int | None = None,
    gain: int | None = None,
    extra: int | None = None,
    margin: float = MARGIN,
    agree: float = AGREE,
    double: bool = True,
    seed: int = 0,
) -> StabilityResult:
    """What becomes of small differences in the loop of a run.

    Arguments:
        examples: how many of the run's examples, from the first on.
        count: eigenvalues. exponents_count: Lyapunov exponents.
        iterations: over which exponents are averaged; None: 2,000 for states of 16 numbers or
            fewer, else 64.
        gain: iterations of the backward gain, from the run's first state; None: the run's own, 32
            at most.
        extra: iterations beyond the run in which it may come to its fixed point; None: as many as
            it has, 96 at least.
        margin, agree: thresholds; see the result.
        double: compute in double precision where the model allows it.
        seed: of the vectors that searches start from.
    """
    _check(examples, count, exponents_count, iterations)
    rows = range(min(examples, run.states.shape[1]))
    loop, limit = continue_to_limit(run, rows, max(96, run.iterations) if extra is None else extra, double)
    iterations = (2000 if limit.states.shape[2] <= _SHORT else 64) if iterations is None else iterations
    gain = min(32, limit.run_end - limit.first) if gain is None else gain
    at_fixed_point = tuple(bool(limit.distance[row] <= NEWTON_STEP) for row in rows)
    local = _local(loop, limit, at_fixed_point, count=count, gain=gain, seed=seed)
    along = _along(loop, limit, iterations, exponents_count, seed=seed)
    rates = [limit.rate(row) for row in rows]
    verdicts = _verdicts(limit, at_fixed_point, local, along, margin=margin, iterations=iterations)
    comparable = [row for row in rows if at_fixed_point[row] and loop.is_time_invariant]
    agreement, disagreement = _agreement(comparable, local, along, rates, agree=agree)
    return StabilityResult(
        verdict=verdicts[0] if len(set(verdicts)) == 1 else Stability.mixed,
        verdicts=verdicts,
        agreement=agreement,
        disagreement=disagreement,
        **vars(local),
        **vars(along),
        rate=torch.tensor([rate.value for rate in rates]),
        rate_error=torch.tensor([rate.error for rate in rates]),
        at_fixed_point=at_fixed_point,
        told=not loop.is_time_invariant,
        iterations=iterations,
        gain_iterations=gain,
        how=limit.how,
        margin=margin,
        agree=agree,
    )


def _check(examples: int, count: int, exponents_count: int, iterations: int | None) -> None:
    if min(examples, count, exponents_count) < 1 or (iterations is not None and iterations < 10):
        raise LoopscopeError(
            "stability needs 1 example, eigenvalue and exponent or more, and 10 iterations or more to "
            "average over, but has "
            f"examples={examples}, count={count}, exponents_count={exponents_count}, iterations={iterations}."
        )


@dataclass(frozen=True)
class _Local:
    """What the Jacobians of single examples tell; fields as in the result."""

    eigenvalues: Tensor
    radius: Tensor
    radius_error: Tensor
    singular_value: Tensor
    backward_gain: Tensor
    sensitivity: Tensor
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Along:
    """Lyapunov exponents along the trajectories; fields as in the result."""

    exponents: Tensor
    exponents_error: Tensor


def _local(
    loop: IterationMap, limit: Limit, at_fixed_point: tuple[bool, ...], *, count: int, gain: int, seed: int
) -> _Local:
    """The Jacobian of every example at its fixed point, or else at its last finite state."""
    inputs = loop.inputs()
    spectra, norms, gains, moved = [], [], [], []
    for row, fixed in enumerate(at_fixed_point):
        one = loop.select_rows([row])
        lost = int(limit.overflow[row])
        last = limit.states[(lost - limit.first - 1) if lost >= 0 else -1, row]
        x = (limit.point[row] if fixed else last)[None]
        spectra.append(spectrum(one, x, count, errors=True, seed=seed))
        norms.append(singular_value(one, x, seed=seed)[0])
        gains.append(backward_gain(one, limit.states[0, row][None], gain, seed=seed)[0])
        moved.append(
            _moved(one, x, inputs, row, seed=seed) if fixed else torch.tensor(math.nan, dtype=torch.float64)
        )
    eigenvalues = torch.stack([result.values[0] for result in spectra])
    return _Local(
        eigenvalues=eigenvalues,
        radius=eigenvalues.abs()[:, 0],
        radius_error=torch.stack([result.error[0, 0] for result in spectra]),
        singular_value=torch.stack(norms),
        backward_gain=torch.stack(gains),
        sensitivity=torch.stack(moved),
        notes=tuple(result.sentences[0] for result in spectra),
    )


def _along(loop: IterationMap, limit: Limit, iterations: int, count: int, *, seed: int) -> _Along:
    """The exponents after the transient: the run itself, and what it took to arrive."""
    begin = torch.nan_to_num(
        limit.states[min(limit.run_end - limit.first, len(limit.states) - 1)], 0.0, 0.0, 0.0
    )
    result = exponents(loop, begin, iterations, count, transient=iterations // 4, seed=seed)
    off = limit.diverges[:, None]
    return _Along(*(torch.where(off, torch.nan, part) for part in (result.values, result.error)))


def _verdicts(
    limit: Limit,
    at_fixed_point: tuple[bool, ...],
    local: _Local,
    along: _Along,
    *,
    margin: float,
    iterations: int,
) -> tuple[Stability, ...]:
    return tuple(
        Stability.diverging
        if limit.diverges[row]
        else _verdict(
            fixed,
            float(local.radius[row]),
            float(local.singular_value[row]),
            float(along.exponents[row, 0]),
            error=float(along.exponents_error[row, 0].nan_to_num(0.0)),
            margin=margin,
            iterations=iterations,
        )
        for row, fixed in enumerate(at_fixed_point)
    )


def _agreement(
    rows: Sequence[int], local: _Local, along: _Along, rates: Sequence[Rate], *, agree: float
) -> tuple[Agreement, float]:
    """Whether the measures agree in these examples, and by how much they don't at most."""
    gaps = []
    for row in rows:
        radius, rate = local.radius[row], rates[row]
        doubt = float((local.radius_error[row] / radius).nan_to_num(0.0, 0.0, 0.0))
        exponent, error = along.exponents[row, 0], along.exponents_error[row, 0]
        gaps.append(
            _gap(
                (
                    (math.log(radius) if radius > 0 else -math.inf, doubt),
                    (math.log(rate.value), rate.error / rate.value) if rate.value > 0 else (math.nan, 0.0),
                    (float(exponent), float(error.nan_to_num(0.0))),
                ),
                agree,
            )
        )
    finite = [gap for gap in gaps if gap == gap]
    if not finite:
        return Agreement.incomparable, math.nan
    return (Agreement.disagree if max(finite) > 0 else Agreement.agree), max(finite)


def _moved(one: Any, x: Tensor, inputs: Tensor | None, row: int, *, seed: int) -> Tensor:
    if inputs is None:
        return torch.zeros((), dtype=torch.float64)
    return sensitivity(one.with_inputs, x, inputs[row : row + 1], seed)


def _verdict(
    at_fixed_point: bool,
    radius: float,
    singular: float,
    exponent: float,
    *,
    error: float,
    margin: float,
    iterations: int,
) -> Stability:
    if at_fixed_point and radius == radius:
        if abs(radius - 1) <= margin:
            return Stability.marginal
        if radius > 1:
            return Stability.unstable
        return Stability.transient if singular > GROWN + margin else Stability.stable
    doubt = max(margin, 2 * error)
    if exponent != exponent or exponent == math.inf:
        return Stability.neutral
    # A difference that only grows evenly, as between neighbouring orbits, has log(n) / n after n
    # iterations.
    if exponent > max(doubt, math.log(iterations) / iterations):
        return Stability.expanding
    return Stability.contracting if exponent < -doubt else Stability.neutral


def _gap(measures: Iterable[tuple[float, float]], agree: float) -> float:
    """How far (value, error) differ beyond what is allowed, in nats per iteration; 0 if they agree,
    NaN with fewer than two.

    Below VANISHED nats they are one: everything is gone within two iterations.
    """
    finite = [
        (max(value, VANISHED), doubt if value > VANISHED else 0.0)
        for value, doubt in measures
        if value == value
    ]
    worst = math.nan if len(finite) < 2 else 0.0
    for i, (one, first) in enumerate(finite):
        for other, second in finite[i + 1 :]:
            allowed = agree * max(abs(one), abs(other)) + 2 * math.hypot(first, second)
            gap = abs(one - other)
            worst = max(worst, gap if gap > allowed + 1e-3 else 0.0)
    return worst


def _mean(values: Tensor) -> float:
    known = values[~values.isnan()]
    return float(known.mean()) if len(known) else float("nan")
