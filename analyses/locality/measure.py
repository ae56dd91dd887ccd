"""The measurement: locality of a run. See the package for the question and its references."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.common.result import AnalysisResult, Verdict
from loopscope.common.text import number, percent
from loopscope.patching.donors import answers_vary, partners
from loopscope.patching.patched_forward import Resumed, affordable, writable
from loopscope.patching.places import Cell
from loopscope.patching.replacements import noise, source
from loopscope.recorder.subset import select_examples
from loopscope.runs.location import places_of
from loopscope.runs.run import Run

from .distances import geometry_of

LOCAL, FURTHER, NOTHING, ROUNDING = 1.5, 1.25, 1e-6, 1e-9
Write = Literal["donor", "noise"]
EXAMPLES, MORE, DRAWS = 8, 8, 500


class Locality(Verdict):
    """How writes spread."""

    relayed = "A write reaches its neighbours first, and further with every iteration."
    local = "A write reaches its neighbours, and stays among them."
    everywhere = "A write reaches near and far alike as soon as it reaches anything."
    contained = "A write stays where it is: no other position's answer depends on it."


@dataclass(frozen=True)
class LocalityResult(AnalysisResult):
    """How far noise at one position reaches."""

    verdict: Locality
    iteration: int
    """The k after which it was written."""
    more: tuple[int, ...]
    """m, iterations after the write."""
    locality: Float[Tensor, " more"]
    """Share of the effect that falls on neighbours over that of chance; NaN where nothing is left
    of the effect on others."""
    low: Float[Tensor, " more"]
    """95 % interval over examples."""
    high: Float[Tensor, " more"]
    distance: Float[Tensor, " more"]
    """Mean distance of the effect on others."""
    chance: Float[Tensor, " more"]
    """The same if the effect were even over all positions that can be reached."""
    own: Float[Tensor, " more"]
    """Share of the effect at the written position itself, 0..1."""
    size: Float[Tensor, " more"]
    """Mean effect on all positions together, for one write."""
    unit: str
    """Of the effect."""
    spread: Float[Tensor, "more step"]
    """Share of the effect at each distance 0, 1, 2 ..."""
    replacement: str
    """What was written, in words."""
    neighbours: str
    """Who is a neighbour, in words."""
    causal: bool
    """Whether no position reaches an earlier one."""
    examples: int
    local_threshold: float = LOCAL
    """Local is from this many times chance on, with its interval above 1, at the first m that
    reaches others ..."""
    further_threshold: float = FURTHER
    """... and it is relayed if the distance grows by this factor after that."""

    def summary(self) -> str:
        known = [i for i, value in enumerate(self.locality.tolist()) if value == value]
        told = "; ".join(
            f"after {self.more[i]} more {_times(self.locality[i])} times chance ({_times(self.low[i])} to "
            f"{_times(self.high[i])}), {number(float(self.distance[i]))} steps away in the mean (even: "
            f"{number(float(self.chance[i]))}), {percent(float(self.own[i]))} of it where it was written"
            for i in dict.fromkeys((known[0], known[len(known) // 2], known[-1]) if known else ())
        )
        beyond = ", and only later positions can be reached" if self.causal else ""
        return (
            f"{self.verdict.sentence} {self.replacement[0].upper()}{self.replacement[1:]} was written at "
            "one position "
            f"of state {self.iteration}, in {self.examples} examples; neighbours are "
            f"{self.neighbours}{beyond}. {told or 'Nothing reached another position'}. Thresholds: local "
            f"from {self.local_threshold:g} times chance with its interval above 1, relayed if the distance "
            f"grows by {self.further_threshold:g}."
        )


def _times(value: Tensor) -> str:
    return number(float(value)) if not float(value) < 0.005 else "0"


def applies(run: Run) -> bool:
    """Whether states can be written and gone on with in seconds, and there are positions to
    reach."""
    return _reachable(run) and affordable(run, run.states.shape[2], EXAMPLES, MORE)


def _reachable(run: Run) -> bool:
    return writable(run) and run.output.shape[1] == run.states.shape[2] >= 4


def measure(
    run: Run,
    *,
    iteration: int | None = None,
    more: int = MORE,
    replacement: Write = "donor",
    norm: float | None = None,
    examples: int | None = EXAMPLES,
    seed: int = 0,
) -> LocalityResult:
    """Write another state at each position in turn and follow what it changes.

    Arguments:
        iteration: k of the state that is written; None: in the middle of the run.
        more: the largest m; fewer where the run ends before.
        replacement: "donor": for each example the state of the next of the batch that answers otherwise;
            where all answer alike, noise. "noise": see `norm`.
        norm: of the noise, in the state's units; None: the median norm of the state there.
        examples: of the run's, the first so many; None: all.
        seed: of the noise.
    """
    run.require_finite()
    if not _reachable(run):
        raise LoopscopeError(
            "locality needs a run without edits of a model with the four functions, with 4 positions or "
            "more that have an answer "
            f"each, but got {run!r} whose output is {tuple(getattr(run.output, 'shape', ()))}. Record one."
        )
    k = run.iterations // 2 if iteration is None else run.states.iteration_at(iteration)
    if replacement == "donor" and answers_vary(run):
        run, donor, _ = partners(run, examples)
        resumed, told = Resumed(run, source(run, donor)[0]), "the state of another example"
    else:
        run = run if examples is None else select_examples(run, range(min(examples, len(run.tokens))))
        length = float(run.states[k].norm(dim=-1).median()) or 1.0
        size = length if norm is None else norm
        resumed = Resumed(run, noise(size, seed))
        told = f"noise of norm {number(size)} ({percent(size / length)} of the state's)"
    effect = _effects(run, resumed, k, more)
    distance = geometry_of(run, effect.shape[-1])
    return _found(effect, distance.distance, distance.neighbours, run, k=k, replacement=told)


def _effects(run: Run, resumed: Resumed, k: int, more: int) -> Float[Tensor, "more batch written read"]:
    """E_ij(m) for every example."""
    positions, last = run.states.shape[2], min(k + more, run.iterations)
    (place,) = places_of(run, ["state"])
    cells = [Cell((place,), k, (p,)) for p in range(positions)]
    base = {later: run.logits[later] for later in range(k, last + 1)}
    result = torch.zeros(last + 1 - k, positions, *base[k].shape[:2])
    for outcome in resumed.outcomes(cells, until=last):
        logits = resumed.decode(outcome)
        for cell, one in zip(outcome.cells, logits, strict=True):
            assert cell.positions is not None
            result[outcome.k - k, cell.positions[0]] = _changed(base[outcome.k], one)
    return result.transpose(1, 2)


def _changed(base: Tensor, other: Tensor) -> Float[Tensor, "batch position"]:
    """KL(base ‖ other) in nats; of numbers the absolute difference."""
    if base.shape[-1] == 1:
        return (base - other).abs()[..., 0].float()
    p, q = (one.double().log_softmax(-1) for one in (base, other))
    return (p.exp() * (p - q)).sum(-1).clamp(min=0).float()


def _found(
    effect: Tensor, distance: Tensor, neighbours: str, run: Run, *, k: int, replacement: str
) -> LocalityResult:
    touched = effect.sum((0, 1))  # (written, read)
    touched = touched > ROUNDING * touched.max()
    causal = not bool(touched.tril(-1).any()) and bool(touched.triu(1).any())
    size = len(distance)
    others = ~torch.eye(size, dtype=torch.bool) & torch.isfinite(distance)
    reach = others.triu() if causal else others
    local = _ratio(effect, distance, reach)
    intervals = _bootstrap(effect, distance, reach)
    away = effect * reach
    weight = away.sum((1, 3))  # (more, written)
    total = weight.sum(1)
    steps = torch.where(reach, distance, 0.0)
    mean_distance = (away * steps).sum((1, 2, 3)) / total
    even = steps.sum(1) / reach.sum(1).clamp(min=1)
    whole = effect.sum((1, 2, 3))
    nothing = total <= NOTHING * effect.sum((1, 2, 3)).max()
    far = int(distance[torch.isfinite(distance)].max())
    spread = torch.stack([(effect * (distance == d)).sum((1, 2, 3)) / whole for d in range(far + 1)], 1)
    left = [
        torch.where(nothing, torch.nan, values)
        for values in (local, *intervals, mean_distance, (weight * even).sum(1) / total)
    ]
    return LocalityResult(
        verdict=_verdict(left[0], left[1], left[3], total, whole=whole),
        iteration=k,
        more=tuple(range(len(effect))),
        locality=left[0],
        low=left[1],
        high=left[2],
        distance=left[3],
        chance=left[4],
        own=(1 - total / whole).clamp(0, 1),
        size=whole / effect.shape[1] / size,
        unit="output" if run.output.shape[-1] == 1 else "nats",
        spread=spread,
        replacement=replacement,
        neighbours=neighbours,
        causal=causal,
        examples=effect.shape[1],
    )


def _ratio(effect: Tensor, distance: Tensor, reach: Tensor) -> Float[Tensor, " more"]:
    """Share of the effect on others that falls on neighbours, over that of an even effect of the
    same writes."""
    near = reach & (distance == 1)
    away = (effect * reach).sum(3)  # (more, batch, written)
    observed = (effect * near).sum((1, 2, 3)) / away.sum((1, 2))
    even = near.sum(1) / reach.sum(1).clamp(min=1)
    return observed / ((away * even).sum((1, 2)) / away.sum((1, 2)))


def _bootstrap(effect: Tensor, distance: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """95 % interval of the ratio over examples."""
    generator = torch.Generator().manual_seed(0)
    batch = effect.shape[1]
    drawn = [
        _ratio(effect[:, torch.randint(0, batch, (batch,), generator=generator)], distance, reach)
        for _ in range(DRAWS)
    ]
    low, high = torch.nanquantile(
        torch.stack(drawn).double(), torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0
    )
    return low.float(), high.float()


def _verdict(local: Tensor, low: Tensor, distance: Tensor, away: Tensor, *, whole: Tensor) -> Locality:
    known = (torch.isfinite(local) & (away > 1e-3 * whole)).nonzero()[:, 0].tolist()
    if not known:
        return Locality.contained
    first = known[0]
    if not (float(local[first]) >= LOCAL and float(low[first]) > 1):
        return Locality.everywhere
    grown = max(float(distance[i]) for i in known) >= FURTHER * float(distance[first])
    return Locality.relayed if grown else Locality.local
