"""The measurement: path independence of a run. See the package for the question and its
references."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.common.result import AnalysisResult, Verdict
from loopscope.common.rng import mixed
from loopscope.common.text import number
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.dynamics.limit_point import is_growing
from loopscope.runs.run import Run

ALIGNED, NEAR, REST = 0.99, 0.15, 1e-4


class Path(Verdict):
    """Whether the start matters."""

    independent = "The loop is path-independent: from every start that was tried it comes to the same end."
    dependent = "The loop is path-dependent: where it ends depends on where it starts."
    attacked = "The loop comes to the same end from ordinary starts, but starts that were searched for lead it elsewhere."
    restless = "The loop comes to no rest within its iterations, so its ends can't be compared as limits."
    diverging = "The loop diverges: its states grow without bound or leave the numbers."


@dataclass(frozen=True)
class Kind:
    """One kind of start."""

    name: str
    alignment: Float[Tensor, "example start"]
    """Cosine of the result to the example's own end; NaN where the loop overflows."""
    distance: Float[Tensor, "example start"]
    """‖result - end‖ / ‖end‖."""

    @property
    def mean(self) -> float:
        """AA of this kind."""
        return float(self.alignment.mean())

    def share(self, aligned: float, near: float) -> float:
        """Fraction of its starts that end in the same place."""
        return float(((self.alignment >= aligned) & (self.distance <= near)).float().mean())


@dataclass(frozen=True)
class PathIndependence(AnalysisResult):
    """Whether the loop ends in the same place wherever it starts."""

    verdict: Path
    alignment: float
    """Asymptotic alignment: over exchanged starts, or over random ones if the run has a single
    example."""
    kinds: tuple[Kind, ...]
    """The kinds of start, adversarial ones last if they were asked for."""
    by_position: Float[Tensor, " position"]
    """Mean cosine over all ordinary starts, position by position."""
    contrast: float
    """Mean cosine between the ends of different examples: near 1, exchanging them is no test. NaN
    for one example."""
    rest: float
    """Relative size of the iteration after an end, the largest over examples."""
    overflow: int
    """The k of the first state that holds NaN or infinity, the start being 0: of the loop's own, or
    else of another start's; -1 if there is none."""
    examples: int
    iterations: int
    """How many each start was run for."""
    told: bool
    """Whether the model is told the number of its iteration, which is then the same for all
    starts."""
    precision: str
    aligned: float
    """A start ends in the same place from this cosine on ..."""
    near: float
    """... and up to this relative distance."""
    resting: float
    """The loop is at rest when `rest` is at most this."""

    def summary(self) -> str:
        lines = [self.verdict.sentence]
        if self.overflow >= 0:
            lines.append(f"NaN or infinity begin at state {self.overflow}.")
        for kind in self.kinds:
            lines.append(
                f"{kind.name.capitalize()} starts: asymptotic alignment {number(kind.mean, 4)} (least "
                f"{number(float(kind.alignment.min()), 4)}), "
                f"relative distance {number(float(kind.distance.mean()))}."
            )
        lines.append(
            f"{self.examples} examples, {self.iterations} iterations each, in {self.precision}; cosine "
            "between the ends of different "
            f"examples {number(self.contrast)}, relative size of one more step {number(self.rest)}."
        )
        lines.append(
            f"Thresholds: same end from cosine {self.aligned:g} and distance {self.near:g}; at rest up to a "
            f"step of {self.resting:g}."
        )
        return " ".join(lines)


def measure(
    run: Run,
    *,
    examples: int = 8,
    exchanged: int = 4,
    random: int = 4,
    adversarial: int = 0,
    iterations: int | None = None,
    aligned: float = ALIGNED,
    near: float = NEAR,
    resting: float = REST,
    double: bool = True,
    seed: int = 0,
) -> PathIndependence:
    """Whether the loop of a run ends in the same place wherever it starts.

    Arguments:
        examples: how many of the run's examples, from the first on.
        exchanged: ends of other examples that each one is started from; all of them if there are no
            more.
        random: random starts per example.
        adversarial: steps of gradient ascent on the misalignment of one random start per example; 0
            for none.
        iterations: how many each start is run for; None: twice the run's, 32 at least.
        aligned, near, resting: thresholds; see the result.
        double: compute in double precision where the model allows it.
        seed: of the random starts.
    """
    _check(examples, exchanged, random, adversarial=adversarial, iterations=iterations)
    batch = min(examples, run.states.shape[1])
    loop = IterationMap(run, range(batch), double)
    iterations = max(32, 2 * run.iterations) if iterations is None else iterations
    own = loop.at(0, run) if run.states.iterations[0] == 0 else loop.starts
    restart = _Restart(loop, own, loop.start_mask(), iterations)
    ends, overflow, grows = _ends(loop, own, iterations)
    diverges = overflow >= 0 or bool(grows.any())
    noise = _noise(restart, ends, max(1, random), seed)
    starts = _starts(restart, ends, noise[:, :random], min(exchanged, batch - 1))
    kinds, by_position, ended = _kinds(restart, ends, starts)
    if adversarial:
        attack = _attack(restart, ends, noise[:, :1], adversarial)
        kinds.append(_compared("adversarial", loop, ends, _run(restart, attack)[0]))
    rest = _rest(loop, ends, iterations)
    means = {kind.name: kind.mean for kind in kinds}
    return PathIndependence(
        verdict=_verdict(kinds, rest, diverges, aligned, near=near, resting=resting),
        alignment=next((means[name] for name in ("exchanged", "random", "zero") if name in means), math.nan),
        kinds=tuple(kinds),
        by_position=by_position.mean((0, 1)).float().cpu(),
        contrast=_contrast(loop.primary(ends).flatten(1)),
        rest=rest,
        overflow=overflow if overflow >= 0 else ended,
        examples=batch,
        iterations=iterations,
        told=not loop.is_time_invariant,
        precision=str(ends.dtype).removeprefix("torch."),
        aligned=aligned,
        near=near,
        resting=resting,
    )


def _check(examples: int, exchanged: int, random: int, *, adversarial: int, iterations: int | None) -> None:
    if examples < 1 or min(exchanged, random, adversarial) < 0 or (iterations is not None and iterations < 1):
        raise LoopscopeError(
            "path_independence needs 1 example and 1 iteration or more, and 0 starts or more of each kind, "
            "but has "
            f"examples={examples}, exchanged={exchanged}, random={random}, adversarial={adversarial}, "
            f"iterations={iterations}."
        )


@dataclass(frozen=True)
class _Restart:
    """A loop that is run again from other starts."""

    loop: IterationMap
    own: Float[Tensor, "example number"]
    """Where each example starts by itself."""
    free: Bool[Tensor, " number"]
    """The numbers of a state that a start sets."""
    iterations: int


def _noise(restart: _Restart, ends: Tensor, count: int, seed: int) -> Float[Tensor, "example start free"]:
    """Random starts, as large as the ends."""
    scale = ends[:, restart.free].square().mean(1, keepdim=True).sqrt()
    scale = torch.where(scale.isfinite() & (scale > 0), scale, torch.ones_like(scale))
    generator = torch.Generator().manual_seed(mixed(seed, 2))
    shape = (len(ends), count, int(restart.free.sum()))
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64).to(restart.own)
    return drawn * scale[:, None]


def _starts(restart: _Restart, ends: Tensor, noise: Tensor, others: int) -> dict[str, Tensor]:
    """By kind (example, start, free): the ends of so many other examples, zero, noise."""
    free = restart.free
    starts = {}
    if others:
        starts["exchanged"] = torch.stack([ends.roll(-shift, 0) for shift in range(1, others + 1)], 1)[
            :, :, free
        ]
    starts["zero"] = torch.zeros_like(restart.own[:, None, free])
    if noise.shape[1]:
        starts["random"] = noise
    return starts


def _kinds(
    restart: _Restart, ends: Tensor, starts: Mapping[str, Tensor]
) -> tuple[list[Kind], Float[Tensor, "example start position"], int]:
    """What each kind of start comes to, its cosines to the end by position, and the k of the first
    overflow, -1 if there is none."""
    kinds, by_position, overflows = [], [], []
    for name, values in starts.items():
        results, overflow = _run(restart, values)
        kinds.append(_compared(name, restart.loop, ends, results))
        by_position.append(_by_position(restart.loop, ends, results))
        overflows.append(overflow)
    return kinds, torch.cat(by_position, 1), min((k for k in overflows if k >= 0), default=-1)


def _rest(loop: IterationMap, ends: Tensor, iterations: int) -> float:
    """Relative size of the iteration after an end, the largest over examples."""
    with torch.no_grad():
        step = loop.primary(loop(ends, iterations) - ends).flatten(1).norm(dim=1)
    size = loop.primary(ends).flatten(1).norm(dim=1)
    return float(torch.where(step == 0, step, step / size).max())


def _ends(loop: IterationMap, x: Tensor, iterations: int) -> tuple[Tensor, int, Tensor]:
    """Where the loop comes to, the k of the first state that holds NaN or infinity (-1: none), and
    which rows grow and grow."""
    ended, norm, steps = -1, [], []
    for k, y in enumerate(loop.trajectory(x, iterations)):
        steps += [(y - x).norm(dim=1)] if k else []
        x = y
        norm.append(x.norm(dim=1))
        if ended < 0 and not bool(x.isfinite().all()):
            ended = k
    return x, ended, is_growing(torch.stack(norm), torch.stack(steps))


def _run(restart: _Restart, values: Tensor) -> tuple[Tensor, int]:
    """Where each example comes to from `values` (example, start, free): (example, start, number);
    and the k of the first state that holds NaN or infinity, -1 if none does."""
    batch, many, _ = values.shape
    starts = restart.own[:, None].repeat(1, many, 1)
    starts[:, :, restart.free] = values
    every = restart.loop.select_rows([row for row in range(batch) for _ in range(many)])
    results, ended, _ = _ends(every, starts.flatten(0, 1), restart.iterations)
    return results.reshape(starts.shape), ended


def _compared(name: str, loop: IterationMap, ends: Tensor, results: Tensor) -> Kind:
    goal = loop.primary(ends).flatten(1)[:, None]
    result = loop.primary(results.flatten(0, 1)).reshape(*results.shape[:2], -1)
    size = goal.norm(dim=2).clamp(min=1e-300)
    # Where the end is the origin, what is left of a start has no direction.
    tiny = 1e-6 * float(loop.primary(loop.starts).norm()) / len(ends) ** 0.5
    both = (goal.norm(dim=2) <= tiny) & (result.norm(dim=2) <= tiny)
    none = (result == 0).all(2) | (goal == 0).all(2)  # no direction, so not the same one
    alignment = torch.where(
        both, torch.ones_like(size), torch.where(none, torch.zeros_like(size), _cosine(result, goal))
    )
    distance = torch.where(both, torch.zeros_like(size), (result - goal).norm(dim=2) / size)
    return Kind(name, alignment.float().cpu(), distance.float().cpu())


def _attack(restart: _Restart, ends: Tensor, values: Tensor, steps: int) -> Tensor:
    """Starts moved along the gradient of the misalignment, at constant norm, the best of each
    kept."""
    loop = restart.loop
    goal = loop.primary(ends).flatten(1).detach()
    norm = values[:, 0].norm(dim=1, keepdim=True)
    x, best, worst = values[:, 0], values[:, 0], torch.full_like(goal[:, 0], 2.0)
    for _ in range(steps + 1):
        x = x.detach().requires_grad_()
        state = restart.own.clone()
        state[:, restart.free] = x
        for t in range(restart.iterations):
            state = loop(state, t)
        cosine = _cosine(loop.primary(state).flatten(1), goal)
        lower = (cosine < worst).detach()
        best, worst = (
            torch.where(lower[:, None], x.detach(), best),
            torch.where(lower, cosine.detach(), worst),
        )
        (slope,) = torch.autograd.grad(cosine.nan_to_num().sum(), x)
        size = slope.norm(dim=1, keepdim=True)
        move = torch.where(size > 0, slope / size, torch.zeros_like(slope)) * norm
        x = x.detach() - 0.5 * move
        x = x * norm / x.norm(dim=1, keepdim=True).clamp(min=1e-300)
    return best[:, None]


def _by_position(
    loop: IterationMap, ends: Tensor, results: Tensor
) -> Float[Tensor, "example start position"]:
    """Cosine of each result to the example's end, position by position."""

    def primary(states: Tensor) -> Tensor:
        flat = loop.primary(states.flatten(0, 1))
        return flat.reshape(*states.shape[:2], *flat.shape[1:])

    return _cosine(primary(results), primary(ends[:, None].expand_as(results)))


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    """Of the last axis; NaN where a vector has no direction."""
    return (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))


def _contrast(ends: Tensor) -> float:
    if len(ends) < 2:
        return float("nan")
    unit = ends / ends.norm(dim=1, keepdim=True)
    return float((unit @ unit.T).triu(1).sum() / (len(ends) * (len(ends) - 1) / 2))


def _verdict(
    kinds: list[Kind], rest: float, diverges: bool, aligned: float, *, near: float, resting: float
) -> Path:
    if diverges:
        return Path.diverging
    ordinary = [kind for kind in kinds if kind.name != "adversarial"]
    if all(kind.share(aligned, near) == 1 for kind in ordinary):
        return Path.independent if all(kind.share(aligned, near) == 1 for kind in kinds) else Path.attacked
    return Path.restless if not rest <= resting else Path.dependent
