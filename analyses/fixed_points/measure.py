"""The measurement: fixed points of a run. See the package for the question and its references."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.common.result import AnalysisResult, Verdict
from loopscope.common.rng import mixed
from loopscope.common.text import number, percent
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.dynamics.limit_point import Limit, continue_to_limit
from loopscope.runs.run import Run

from .basins import Basins, Point, explore, starts

SAME, TIGHT, NEARING, STILL, DEGENERATE, LONG = 1e-3, 1e-6, 0.9, 1e-6, 1e12, 1000


class Fate(Verdict):
    """Where a loop ends."""

    one = "The loop ends at a stable fixed point, and every start that was tried leads to the same one."
    several = (
        "The loop ends at a fixed point, but other starts lead elsewhere: there is more than one attractor."
    )
    local = (
        "The loop ends at a fixed point, and nothing else was found, but some other starts came to no rest."
    )
    approaching = "The loop nears a stable fixed point, but isn't there by the end of the extra iterations."
    unstable = "There is a fixed point, which solvers find, but it doesn't attract the loop."
    none = "The loop ends at no fixed point, and no solver found one."
    diverging = "The loop diverges: its states grow without bound."
    told = "The loop is told the number of its iteration, so it applies another map each time and has no fixed point as such."
    mixed = "The examples differ in where the loop ends."


@dataclass(frozen=True)
class FixedPoints(AnalysisResult):
    """Where a loop ends, example by example."""

    verdict: Fate
    fates: tuple[Fate, ...]
    """Of each example."""
    reached: Int[Tensor, " example"]
    """The k from which on the state stays at its fixed point (within `same`); -1 if it never
    does."""
    reached_by_position: Int[Tensor, "example position"]
    """The same for each position, in the primary tensor."""
    rate: Float[Tensor, " example"]
    """Factor per iteration by which the distance to the fixed point shrinks in the end; NaN if
    there is none."""
    rate_error: Float[Tensor, " example"]
    """Its standard error."""
    rate_by_position: Float[Tensor, "example position"]
    rate_sentence: str
    """On the first example's rate, or why it has none."""
    residual: Float[Tensor, " example"]
    """‖F(x) - x‖ / ‖x‖ at the run's last state."""
    distance: Float[Tensor, " example"]
    """From the end of the extra iterations to the nearest fixed point found from there, over its
    size; NaN if none was."""
    solver_distance: Float[Tensor, " example"]
    """From the end of the extra iterations to what Anderson's solver finds from the first state,
    over its size; NaN if none."""
    overflow: Int[Tensor, " example"]
    """The k of the first state that holds NaN or infinity; -1 if none does."""
    points: tuple[Point, ...]
    """The distinct fixed points of all examples."""
    reachability: float
    """Share of all starts, the examples' own included, that reach a fixed point within the run's
    length."""
    input_dependence: float
    """Distance between fixed points over distance between inputs; 0 if the loop reads no input, NaN
    for fewer than two examples that reach one."""
    reads_input: bool
    """Whether an iteration reads anything that depends on the tokens."""
    radius: Float[Tensor, " example"]
    """Spectral radius at the fixed point nearest to where the loop ends; NaN where it wasn't
    computed."""
    starts: int
    """How many other starts each example was given."""
    paths: Float[Tensor, "example state plane"]
    """The loop's own states in the plane of the figure."""
    first: int
    """The k of the first of them."""
    how: str
    """A sentence on how the states were continued."""
    same: float
    """Points nearer than this, relative to their size, are one."""
    tolerance: float
    """The residual that plain iteration must fall below to count as at rest."""
    perturbation: float
    """Size of the perturbations, relative to the state's norm."""

    def summary(self) -> str:
        names = [fate.name for fate in self.fates]
        counts = ", ".join(f"{names.count(fate.name)} {fate.name}" for fate in Fate if fate.name in names)
        known = self.reached[self.reached >= 0]
        when = (
            f"reached after {known.float().mean():.1f} iterations in the mean and {int(known.max())} at most"
            if len(known)
            else "never reached"
        )
        lines = [self.verdict.sentence]
        if self.verdict is Fate.mixed:
            lines.append(f"Examples: {counts}.")
        if (self.overflow >= 0).any():
            lines.append(f"NaN or infinity begin at state {int(self.overflow[self.overflow >= 0].min())}.")
        if self.verdict is not Fate.told:
            stable = sum(p.stable is True for p in self.points)
            unstable = sum(p.stable is False for p in self.points)
            lines.append(
                f"Solvers and iteration found {len(self.points)} fixed points, counted example by example "
                f"({stable} stable, {unstable} unstable, the rest neutral or not examined), in "
                f"{len(self.fates)} examples; that visited is {when}."
            )
            if len(known):
                lines.append(self.rate_sentence)
            far = self.solver_distance[(self.solver_distance > self.same) & self.solver_distance.isfinite()]
            if len(far):
                lines.append(
                    f"In {len(far)} examples the solver's fixed point is not where the loop ends: they lie "
                    f"{number(float(far.max()))} of the state's size apart at most."
                )
            lines.append(
                f"Reachability: {percent(self.reachability)} of all starts are at rest within the run's own "
                "length. Input dependence: "
                f"{number(self.input_dependence)}{'' if self.reads_input else ' (no input is read)'}. Local "
                f"geometry: spectral radius {number(_mean(self.radius))} in the mean."
            )
        lines.append(
            f"{self.how} {self.starts} other starts per example. Thresholds: one point within {self.same:g} "
            f"of its size; at rest below a residual of {self.tolerance:g}; perturbations of "
            f"{self.perturbation:g}."
        )
        return " ".join(lines)


def measure(
    run: Run,
    *,
    examples: int | None = None,
    extra: int | None = None,
    perturbed: int = 2,
    random: int = 4,
    perturbation: float = 0.1,
    same: float = SAME,
    tolerance: float = TIGHT,
    inspected: int | None = None,
    double: bool = True,
    seed: int = 0,
) -> FixedPoints:
    """Where the loop of a run ends, and what fixed points its map has.

    Arguments:
        examples: how many of the run's examples, from the first on; None: 8, or 4 where a state has
            1,000 numbers or more.
        extra: iterations beyond the run; None: as many as it has, 96 at least.
        perturbed, random: starts of each kind per example, besides another example's end and zero.
        perturbation: size of the perturbations, relative to the state's norm.
        same: points nearer than this, relative to their size, are one.
        tolerance: the residual below which plain iteration counts as at rest.
        inspected: for how many points the spectral radius is computed; None: all where states have
            128 numbers or fewer,
        else 2. double: compute in double precision where the model allows it.
        seed: of perturbations and random starts.
    """
    examples = (8 if math.prod(run.states.shape[2:]) < LONG else 4) if examples is None else examples
    _check(examples, perturbed, random, same=same, tolerance=tolerance, perturbation=perturbation)
    extra = max(96, run.iterations) if extra is None else extra
    rows = range(min(examples, run.states.shape[1]))
    loop, limit = continue_to_limit(run, rows, extra, double)
    others = starts(loop, limit, perturbed, random, perturbation=perturbation, seed=mixed(seed, 1))
    # What is told the number of its iteration has no single map to solve.
    basins = (
        explore(loop, limit, others, tolerance, same=same, inspected=inspected)
        if loop.is_time_invariant
        else None
    )
    fates = tuple(_fate(limit, basins, row, same) if basins else Fate.told for row in rows)
    return FixedPoints(
        verdict=fates[0] if len(set(fates)) == 1 else Fate.mixed,
        fates=fates,
        **_course(loop, limit, fates, same),
        **_dependence(loop, limit, fates),
        **_places(limit, basins, same),
        distance=limit.distance.float().cpu(),
        overflow=limit.overflow,
        starts=others.shape[1],
        first=limit.first,
        how=limit.how,
        same=same,
        tolerance=tolerance,
        perturbation=perturbation,
    )


def _check(
    examples: int, perturbed: int, random: int, *, same: float, tolerance: float, perturbation: float
) -> None:
    if examples < 1 or perturbed < 0 or random < 0 or not (same > 0 and tolerance > 0 and perturbation > 0):
        raise LoopscopeError(
            "fixed_points needs 1 example or more, 0 starts or more of each kind, and same, tolerance and "
            "perturbation above 0, "
            f"but has examples={examples}, perturbed={perturbed}, random={random}, same={same}, "
            f"tolerance={tolerance}, perturbation={perturbation}. Leave out what you don't need to change."
        )


def _course(loop: IterationMap, limit: Limit, fates: Sequence[Fate], same: float) -> dict[str, Any]:
    """When, how fast and how nearly each example comes to rest; fields as in the result."""
    rested = _rested(fates)
    rates = [limit.rate(row) for row in range(len(fates))]
    since, rate_by_position = _by_position(loop, limit, same)
    last = limit.states[limit.run_end - limit.first]
    gap = (limit.states[min(limit.run_end - limit.first + 1, len(limit.states) - 1)] - last).norm(dim=1)
    return {
        "reached": torch.where(
            rested, _since(limit.states - limit.point, limit.size * same, limit.first), -1
        ),
        "reached_by_position": torch.where(rested[:, None], since, -1),
        "rate": torch.tensor([rate.value for rate in rates]),
        "rate_error": torch.tensor([rate.error for rate in rates]),
        "rate_by_position": rate_by_position,
        "rate_sentence": rates[0].sentence,
        "residual": torch.where(gap == 0, gap, gap / last.norm(dim=1)).float().cpu(),
    }


def _places(limit: Limit, basins: Basins | None, same: float) -> dict[str, Any]:
    """The fixed points, and the plane that shows them; fields as in the result."""
    points, plane = basins.points if basins else (), _plane(limit)
    rows = range(len(limit.point))
    nan = float("nan")
    return {
        "solver_distance": basins.solver_distance if basins else torch.full((len(rows),), nan),
        "points": tuple(_placed(point, plane) for point in points),
        "reachability": basins.reachability if basins else nan,
        "radius": torch.tensor([_radius(points, limit, row, same) for row in rows]),
        "paths": torch.nan_to_num(plane(limit.states.transpose(0, 1)), 0.0, 0.0, 0.0),
    }


def _dependence(loop: IterationMap, limit: Limit, fates: Sequence[Fate]) -> dict[str, Any]:
    """Whether the loop reads its input, and how far its ends follow it; fields as in the result."""
    inputs, rested = loop.inputs(), _rested(fates)
    if inputs is None or not _reads(loop, limit, inputs):
        return {"reads_input": False, "input_dependence": 0.0 if int(rested.sum()) > 1 else float("nan")}
    return {"reads_input": True, "input_dependence": _input_dependence(limit, inputs, rested)}


def _rested(fates: Sequence[Fate]) -> Bool[Tensor, " example"]:
    return torch.tensor([fate in (Fate.one, Fate.several, Fate.local) for fate in fates])


def _fate(limit: Limit, basins: Basins, row: int, same: float) -> Fate:
    if bool(limit.diverges[row]):
        return Fate.diverging
    own = [p for p in basins.points if p.example == row]
    mine = next((p for p in own if _at(p, limit, same)), None)
    if mine is not None and float(limit.distance[row]) <= same:
        if mine.stable is False:
            return Fate.unstable
        if any(p is not mine and p.visits > 0 and p.stable is not False for p in own):
            return Fate.several
        return Fate.one if bool(basins.home[row].all()) else Fate.local
    gaps = limit.distances(row)
    fall = float(gaps[-1]) / float(gaps[len(gaps) // 2]) if mine is not None else 1.0
    nearing = mine is not None and mine.stable is not False and fall < 1 - STILL
    if nearing and mine is not None and (mine.stable or limit.rate(row).points or fall < NEARING):
        return Fate.approaching
    # Where I - J is singular, a drift that rounding has stopped looks like a fixed point.
    return Fate.unstable if any(p.condition < DEGENERATE for p in own) else Fate.none


def _radius(points: Sequence[Point], limit: Limit, row: int, same: float) -> float:
    return next((p.radius for p in points if p.example == row and _at(p, limit, same)), float("nan"))


def _at(point: Point, limit: Limit, same: float) -> bool:
    """Whether this is the fixed point nearest to the end of its example's loop."""
    return bool(
        (point.point.to(limit.point) - limit.point[point.example]).norm() <= same * limit.size[point.example]
    )


def _since(gaps: Tensor, within: Tensor, first: int) -> Tensor:
    """The k from which on ‖gap‖ (state, row, ...) stays within; -1 if it isn't at the end."""
    near = gaps.norm(dim=-1) <= within
    stays = near.flip(0).int().cummin(0).values.flip(0).bool()
    return torch.where(stays[-1], first + stays.int().argmax(0), -1).cpu()


def _by_position(loop: IterationMap, limit: Limit, same: float) -> tuple[Tensor, Tensor]:
    """Since when each position is at its fixed point, and its own rate; (example, position)
    each."""
    point = loop.primary(limit.point)
    examples, count, width = len(point), loop.positions or 1, point.shape[2]
    gaps = torch.stack([loop.primary(x) for x in limit.states]) - point
    size = torch.maximum(point.norm(dim=2), 1e-2 * limit.size[:, None] / count**0.5)
    since = _since(gaps, same * size, limit.first)
    rates = torch.full((examples, count), float("nan"))
    for row in range(examples):
        for p in range(count) if count > 1 else ():
            rates[row, p] = limit.rate(
                row, torch.arange(p * width, (p + 1) * width, device=point.device)
            ).value
    if count == 1:
        rates[:, 0] = torch.tensor([limit.rate(row).value for row in range(examples)])
    return since, rates


def _reads(loop: IterationMap, limit: Limit, inputs: Tensor) -> bool:
    """Whether a change of the inputs changes an iteration."""
    x = torch.where(limit.point.isfinite(), limit.point, torch.nan_to_num(limit.states[0], 0.0, 0.0, 0.0))
    with torch.no_grad():
        size = inputs.square().mean().sqrt()
        return not torch.equal(
            loop.with_inputs(x, inputs), loop.with_inputs(x, inputs + (0.1 * size if size > 0 else 1.0))
        )


def _input_dependence(limit: Limit, inputs: Tensor, rested: Tensor) -> float:
    if int(rested.sum()) < 2:
        return float("nan")

    def spread(x: Tensor) -> float:
        rms = float(x.square().sum(1).mean().sqrt())
        return float(torch.pdist(x.double()).mean()) / rms if rms > 0 else 0.0

    kept = rested.to(limit.point.device)
    reached, given = spread(limit.point[kept]), spread(inputs[kept])
    return reached / given if given > 0 else float("nan")


def _plane(limit: Limit) -> Any:
    """The plane of the two directions in which the examples' states vary most, as a function onto
    it."""
    every = limit.states[:, ~limit.diverges].reshape(-1, limit.states.shape[2])
    every = (
        every
        if len(every)
        else torch.nan_to_num(limit.states[:2].reshape(-1, limit.states.shape[2]), 0.0, 0.0, 0.0)
    )
    every = every[:: max(1, len(every) // 1000)].double()
    mean = every.mean(0)
    _, _, v = torch.linalg.svd(every - mean, full_matrices=False)
    axes = torch.zeros(2, every.shape[1], dtype=every.dtype, device=every.device)
    axes[: len(v[:2])] = v[:2]
    return lambda x: ((x.to(mean) - mean) @ axes.T).float().cpu()


def _placed(point: Point, plane: Any) -> Point:
    x, y = plane(point.point).tolist()
    return replace(point, place=(x, y))


def _mean(values: Tensor) -> float:
    known = values[values.isfinite()]
    return float(known.mean()) if len(known) else float("nan")
