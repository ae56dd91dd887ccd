"""Asymptotic alignment by kind of start, contrast between examples, distance from rest, and the
verdict."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.arguments import Count, Positive, PositiveCount, Seed, Share
from loopscope.common.fate import Fate
from loopscope.common.text import number
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.core.masked import masked_mean
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.maths.precision import can_tell_end, motion_scale, resolution, rounding
from loopscope.runs.run import Run
from loopscope.runs.run_mask import require_counted, rows_that_count

from .alignment import StartKind, alignment_by_position, compare, contrast_of
from .starts import Ends, Restart, adversarial_starts, ordinary_starts, random_starts, run_to_end

ALIGNED, NEAR, REST = 0.99, 0.15, 1e-4


class PathIndependenceVerdict(Verdict):
    """Whether the end depends on the start."""

    independent = "The loop is path-independent: it reaches the same end from every start that was tried."
    dependent = "The loop is path-dependent: where it ends depends on where it starts."
    attacked = "The loop reaches the same end from ordinary starts, but another end from adversarial starts."
    restless = "The loop does not settle within its iterations, so its ends cannot be compared as limits."
    diverging = "The loop diverges: its states grow without bound or overflow."
    unresolved = (
        "The precision of the states can't tell where the loop ends, and so not whether other starts lead "
        "to the same end."
    )
    unclear = UNCLEAR


@dataclass(frozen=True)
class PathIndependenceResult(AnalysisResult):
    """Whether the loop reaches the same end from other starts."""

    verdict: PathIndependenceVerdict
    alignment: float
    """Asymptotic alignment over exchanged starts, or over random ones if the run has one
    example."""
    kinds: tuple[StartKind, ...]
    """The kinds of start; adversarial ones, if any, are last."""
    by_position: Float[Tensor, " position"]
    """Mean cosine over all ordinary starts, position by position."""
    contrast: float
    """Mean cosine between the ends of different examples: near 1, exchanging them is no test. NaN
    for one example."""
    rest: float
    """Size of one more iteration after an end, over its norm and over the distance from its start
    (the larger of both ratios), the largest over examples."""
    overflow: int
    """The k of the first state with NaN or infinity, the start being 0: of the loop's own, or else
    of another start's; -1 if there is none."""
    examples: int
    iterations: int
    """Iterations run from each start."""
    iteration_index: bool
    """Whether the model receives the iteration index, which is then the same for all starts."""
    precision: str
    aligned: float
    """A start reaches the same end from this cosine on ..."""
    near: float
    """... and up to this distance, over the least of the end's norm, the distance between the
    starts, and the step of a loop that still moves."""
    resting: float
    """The loop is at rest when `rest` is at most this."""

    @property
    def fate(self) -> Fate:
        fates: dict[PathIndependenceVerdict, Fate] = {
            PathIndependenceVerdict.dependent: "converges",
            PathIndependenceVerdict.diverging: "grows",
        }
        return fates.get(self.verdict, "unclear")

    def summary(self) -> str:
        lines = [self.sentence]
        if self.overflow >= 0:
            lines.append(f"NaN or infinity begin at state {self.overflow}.")
        for kind in self.kinds:
            lines.append(
                f"{kind.label[0].upper()}{kind.label[1:]}: asymptotic alignment {number(kind.mean, 4)} "
                f"(minimum {number(float(kind.alignment.min()), 4)}), mean relative distance "
                f"{number(float(kind.distance.mean()))}."
            )
        lines.append(
            f"{self.examples} examples, {self.iterations} iterations each, in {self.precision}; mean cosine "
            f"between the ends of different examples {number(self.contrast)}, relative size of one more "
            f"iteration {number(self.rest)} (of norm and range)."
        )
        lines.append(
            f"Thresholds: same end from cosine {self.aligned:g} and distance {self.near:g}; at rest up to a "
            f"relative size of {self.resting:g}."
        )
        return " ".join(lines)


# It is long because it lists every option and every field of the result.
def measure(
    run: Run,
    *,
    examples: PositiveCount = 8,
    exchanged: Count = 4,
    random: Count = 4,
    adversarial: Count = 0,
    iterations: PositiveCount | None = None,
    aligned: Share = ALIGNED,
    near: Positive = NEAR,
    resting: Positive = REST,
    double: bool = True,
    seed: Seed = 0,
) -> PathIndependenceResult:
    """Whether the loop of a run reaches the same end from other starts.

    Arguments:
        examples: how many of the run's examples that count somewhere, from the first on.
        exchanged: number of other examples whose ends are starts; all others if there are fewer.
        random: random starts per example.
        adversarial: steps of gradient ascent on 1 - cosine of one random start per example; 0 for
            no adversarial starts.
        iterations: run from each start; None: twice the run's, 32 at least.
        aligned, near, resting: thresholds; see the result.
        double: compute in double precision where the model allows it.
        seed: of the random starts.

    Raises:
        LoopscopeError: there is no example, no iteration, or a negative number of starts.
    """
    require_counted(run)
    rows = rows_that_count(run)[:examples]
    batch, loop = len(rows), IterationMap(run, rows, double)
    iterations = max(32, 2 * run.iterations) if iterations is None else iterations
    origin = loop.at(0, run) if run.states.iterations[0] == 0 else loop.starts
    restart = Restart(loop, origin, loop.start_mask(), iterations)
    end = run_to_end(loop, origin, iterations)
    noise = random_starts(restart, end.states, max(1, random), seed)
    starts = ordinary_starts(restart, end.states, noise[:, :random], min(exchanged, batch - 1))
    step, rest = _rest(loop, end, iterations, resting)
    kinds, by_position, overflow = _kinds(restart, end.states, starts, step)
    if adversarial:
        attack = adversarial_starts(restart, end.states, noise[:, :1], adversarial)
        results = restart.run(attack)[0]
        kinds.append(compare("adversarial", loop, end.states, results, away=restart.away(attack), step=step))
    diverges = end.overflow >= 0 or bool(end.is_growing.any())
    resolved = _is_resolved(end, origin, resolution(run.states[run.states.iterations[0]].dtype), diverges)
    means = {kind.name: kind.mean for kind in kinds}
    return PathIndependenceResult(
        verdict=_verdict(kinds, rest, diverges, aligned, near=near, resting=resting)
        if resolved
        else PathIndependenceVerdict.unresolved,
        alignment=next((means[name] for name in ("exchanged", "random", "zero") if name in means), math.nan),
        kinds=tuple(kinds),
        by_position=_mean_by_position(loop, by_position),
        contrast=contrast_of(loop.primary(end.states).flatten(1)),
        rest=rest,
        overflow=end.overflow if end.overflow >= 0 else overflow,
        examples=batch,
        iterations=iterations,
        iteration_index=not loop.is_time_invariant,
        precision=str(end.states.dtype).removeprefix("torch."),
        aligned=aligned,
        near=near,
        resting=resting,
    )


def _kinds(
    restart: Restart, ends: Tensor, starts: Mapping[str, Tensor], step: Tensor
) -> tuple[list[StartKind], Float[Tensor, "example start position"], int]:
    """The results of each kind of start, their cosines to the end by position, and the k of the
    first overflow, -1 if there is none."""
    kinds, by_position, overflows = [], [], []
    for name, values in starts.items():
        results, overflow = restart.run(values)
        kinds.append(compare(name, restart.loop, ends, results, away=restart.away(values), step=step))
        by_position.append(alignment_by_position(restart.loop, ends, results))
        overflows.append(overflow)
    return kinds, torch.cat(by_position, 1), min((k for k in overflows if k >= 0), default=-1)


def _mean_by_position(
    loop: IterationMap, values: Float[Tensor, "example start counted"]
) -> Float[Tensor, " position"]:
    """The mean over examples and starts, by the positions of the run; NaN where none counts."""
    counted = loop.on_positions(torch.ones_like(values), 0.0).bool().cpu()
    return masked_mean(loop.on_positions(values).float().cpu(), counted, (0, 1))


def _rest(
    loop: IterationMap, end: Ends, iterations: int, resting: float
) -> tuple[Float[Tensor, " example"], float]:
    """(the size of one more iteration after each end, 0 where it rests; the largest relative
    one)."""
    with torch.no_grad():
        change = loop.primary(loop(end.states, iterations) - end.states).flatten(1).norm(dim=1)
    norm = loop.primary(end.states).flatten(1).norm(dim=1)
    scale = motion_scale(norm, torch.where(end.span > 0, end.span, norm))
    ratio = torch.where(change == 0, change, change / scale)
    still = (ratio <= resting) | (change <= rounding(norm, resolution(end.states.dtype)))
    ratio = torch.where(still, ratio.clamp(max=resting), ratio)
    return torch.where(still, torch.zeros_like(change), change), float(ratio.max())


def _is_resolved(end: Ends, origin: Tensor, recorded: float, diverges: bool) -> bool:
    """Whether the precision allows to tell where every example ends.

    Arguments:
        recorded: machine epsilon of the run's states.
    """
    if diverges:
        return bool((~(end.first_step <= rounding(origin.norm(dim=1), recorded))).all())
    known = can_tell_end(
        origin, end.states, end.span, recorded=recorded, computed=resolution(end.states.dtype)
    )
    return bool(known.all())


def _verdict(
    kinds: list[StartKind], rest: float, diverges: bool, aligned: float, *, near: float, resting: float
) -> PathIndependenceVerdict:
    if diverges:
        return PathIndependenceVerdict.diverging
    same = {kind.name: kind.share(aligned, near) == 1 for kind in kinds}
    if all(same.values()):
        return PathIndependenceVerdict.independent
    if all(same[name] for name in same if name != "adversarial"):
        return PathIndependenceVerdict.attacked
    return PathIndependenceVerdict.dependent if rest <= resting else PathIndependenceVerdict.restless
