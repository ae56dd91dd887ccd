"""Effects of patching one position at a time, by distance and iterations after the intervention,
relative to a uniform effect; and the verdict."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.arguments import Count, Index, Positive, PositiveCount, Seed
from loopscope.common.errors import LoopscopeError
from loopscope.common.text import number, percent, plural
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.patching.counted_cells import unpadded_replacement
from loopscope.patching.donors import donor_pairs, has_donor_pair
from loopscope.patching.patch_cell import PatchCell
from loopscope.patching.patched_forward import PatchedForward, affordable, patchable
from loopscope.patching.replacements import noise, replacement_for
from loopscope.recorder.subset import select_examples
from loopscope.runs.location import places_of
from loopscope.runs.run import Run
from loopscope.runs.run_mask import counted_vectors, mask_at, rows_that_count

from .change_of_answers import change_of_answers
from .distances import PositionDistances, position_distances

LOCAL, GROWTH, NEGLIGIBLE, ROUNDING = 1.5, 1.25, 1e-6, 1e-9
EXAMPLES, AFTER, DRAWS = 8, 8, 500
SHARE = 1e-3
"""An effect on others counts from this share of the whole effect on."""
Replacement = Literal["donor", "noise"]


class LocalityVerdict(Verdict):
    """How the effect of an intervention spreads."""

    relayed = "An intervention affects neighbours first, and more distant positions with every iteration."
    local = "An intervention affects neighbours, and stays among them."
    everywhere = "An intervention affects near and distant positions alike."
    contained = "An intervention affects no other position's answer."
    unresolved = "The effect on other positions is no more than rounding, so it can't be told from none."
    unclear = UNCLEAR


@dataclass(frozen=True)
class LocalityResult(AnalysisResult):
    """How far the effect of patching one position reaches."""

    verdict: LocalityVerdict
    iteration: int
    """The k whose state is patched."""
    after: tuple[int, ...]
    """m, iterations after the intervention."""
    locality: Float[Tensor, " after"]
    """Share of the effect on others that falls on neighbours, over that of a uniform effect; NaN
    where there is no effect on others."""
    low: Float[Tensor, " after"]
    """95 % interval over examples."""
    high: Float[Tensor, " after"]
    distance: Float[Tensor, " after"]
    """Mean distance of the effect on others."""
    chance: Float[Tensor, " after"]
    """The same if the effect were uniform over all reachable positions."""
    self_share: Float[Tensor, " after"]
    """Share of the effect at the patched position itself, 0..1."""
    size: Float[Tensor, " after"]
    """Mean effect of one intervention, summed over positions."""
    unit: str
    """Of the effect."""
    by_distance: Float[Tensor, "after distance"]
    """Share of the effect at each distance 0, 1, 2 ..."""
    replacement: str
    """What replaces the state, in words."""
    neighbours: str
    """Which positions are neighbours, in words."""
    causal: bool
    """Whether no position affects an earlier one."""
    examples: int
    local_threshold: float = LOCAL
    """Local is from this many times a uniform effect, with its interval above 1, at the first m
    that affects others ..."""
    growth_threshold: float = GROWTH
    """... and relayed if the distance grows by this factor after that."""

    def summary(self) -> str:
        finite = [i for i, value in enumerate(self.locality.tolist()) if value == value]
        rows = "; ".join(
            f"after {plural(self.after[i], 'more iteration')} {_times(self.locality[i])} times uniform "
            f"({_times(self.low[i])} to {_times(self.high[i])}), at a mean distance of "
            f"{number(float(self.distance[i]))} (uniform: {number(float(self.chance[i]))}), with "
            f"{percent(float(self.self_share[i]))} of the effect at the patched position"
            for i in dict.fromkeys((finite[0], finite[len(finite) // 2], finite[-1]) if finite else ())
        )
        reachable = ", and only later positions are reachable" if self.causal else ""
        return (
            f"{self.sentence} State {self.iteration} was replaced at one position by "
            f"{self.replacement}, in {self.examples} examples; neighbours are {self.neighbours}{reachable}. "
            f"{'Effect on neighbours: ' + rows if rows else 'No other position was affected'}. Thresholds: "
            f"local from {self.local_threshold:g} times uniform with its interval above 1, relayed if the "
            f"distance grows by {self.growth_threshold:g}."
        )


def _times(value: Tensor) -> str:
    return number(float(value)) if not float(value) < 0.005 else "0"


def applies(run: Run) -> bool:
    """Whether states can be patched and the loop continued in seconds, and there are enough
    positions."""
    return _patchable(run) and affordable(run, run.states.shape[2], EXAMPLES, AFTER)


def _patchable(run: Run) -> bool:
    positions = int(mask_at(run, run.states).any(0).sum())
    return patchable(run) and run.output.shape[1] == run.states.shape[2] and positions >= 4


def measure(
    run: Run,
    *,
    iteration: Index | None = None,
    iterations_after: Count = AFTER,
    replacement: Replacement = "donor",
    norm: Positive | None = None,
    examples: PositiveCount | None = EXAMPLES,
    seed: Seed = 0,
) -> LocalityResult:
    """Patch the state at each position in turn and measure the effect on every position's answer.

    Arguments:
        iteration: k of the state that is patched; None: the middle of the run.
        iterations_after: the largest m; fewer where the run ends before.
        replacement: "donor": for each example the state of the next example of the batch with
            another answer; noise if all answers are equal. "noise": see `norm`.
        norm: of the noise, in the state's units; None: the median norm of the state there.
        examples: how many of the run's, from the first on; None: all.
        seed: of the noise.

    Raises:
        LoopscopeError: the run can't be patched or has fewer than 4 positions with an answer.
    """
    run.require_finite()
    if not _patchable(run):
        raise LoopscopeError(
            "locality needs a run without edits of a model with the four functions, with an answer at each "
            f"of 4 positions or more, but got {run!r} whose output is "
            f"{tuple(getattr(run.output, 'shape', ()))}. Record one."
        )
    k = run.iterations // 2 if iteration is None else run.states.iteration_at(iteration)
    if replacement == "donor" and has_donor_pair(run):
        run, donor, _ = donor_pairs(run, examples)
        replaced, words = replacement_for(run, donor)[0], "the state of another example"
    else:
        run = select_examples(run, rows_that_count(run)[:examples])
        length = float(counted_vectors(run, run.states, k).norm(dim=-1).median()) or 1.0
        size = length if norm is None else norm
        replaced = noise(size, seed)
        words = f"itself plus noise of norm {number(size)} ({percent(size / length)} of the state's norm)"
    mask = mask_at(run, run.states)
    resumed = PatchedForward(run, unpadded_replacement(replaced, run.mask))
    effect, lost = _effects(run, resumed, k, iterations_after, mask=mask)
    geometry = position_distances(run, effect.shape[-1])
    spread = _spread(effect, geometry, mask)
    return LocalityResult(
        verdict=_verdict(spread, lost),
        iteration=k,
        after=tuple(range(len(effect))),
        **spread._asdict(),
        unit="output" if run.output.shape[-1] == 1 else "nats",
        replacement=words,
        neighbours=geometry.later_neighbours if spread.causal else geometry.neighbours,
        examples=effect.shape[1],
    )


def _effects(
    run: Run, resumed: PatchedForward, k: int, after: int, *, mask: Bool[Tensor, "batch position"]
) -> tuple[Float[Tensor, "after batch patched read"], Float[Tensor, " after"]]:
    """(E_ij(m) for every example, 0 where i or j doesn't count; what rounding could hide of an
    intervention's effect)."""
    positions, last = run.states.shape[2], min(k + after, run.iterations)
    (place,) = places_of(run, ["state"])
    cells = [PatchCell((place,), k, (p,)) for p in mask.any(0).nonzero()[:, 0].tolist()]
    base = {later: run.logits[later] for later in range(k, last + 1)}
    result, lost = torch.zeros(last + 1 - k, positions, *base[k].shape[:2]), torch.zeros(last + 1 - k)
    for outcome in resumed.states_after(cells, until=last):
        logits = resumed.decode(outcome)
        for cell, patched in zip(outcome.cells, logits, strict=True):
            assert cell.positions is not None
            effect, level = change_of_answers(base[outcome.k], patched)
            result[outcome.k - k, cell.positions[0]] = effect
            lost[outcome.k - k] = lost[outcome.k - k].maximum(level.sum(1).mean())
    result = result.transpose(1, 2)
    return torch.where(_pairs(mask), result, torch.zeros_like(result)), lost


def _pairs(mask: Bool[Tensor, "batch position"]) -> Bool[Tensor, "batch patched read"]:
    """Pairs of positions that both count."""
    return mask[:, :, None] & mask[:, None, :]


class _Spread(NamedTuple):
    """Where the effect is; fields as in the result."""

    locality: Float[Tensor, " after"]
    low: Float[Tensor, " after"]
    high: Float[Tensor, " after"]
    distance: Float[Tensor, " after"]
    chance: Float[Tensor, " after"]
    self_share: Float[Tensor, " after"]
    size: Float[Tensor, " after"]
    by_distance: Float[Tensor, "after distance"]
    causal: bool


def _spread(
    effect: Float[Tensor, "after batch patched read"],
    geometry: PositionDistances,
    mask: Bool[Tensor, "batch position"],
) -> _Spread:
    distance, pairs = geometry.distance, _pairs(mask)
    others, causal = _reachable(effect, distance)
    reachable = others & pairs  # (batch, patched, read)
    on_others = effect * reachable
    by_source = on_others.sum(3)  # (after, batch, patched)
    total, whole = by_source.sum((1, 2)), effect.sum((1, 2, 3))
    lengths = torch.where(reachable, distance, 0.0)
    uniform = lengths.sum(2) / reachable.sum(2).clamp(min=1)
    mean_distance = (on_others * lengths).sum((1, 2, 3)) / total
    chance = (by_source * uniform).sum((1, 2)) / total
    negligible = total <= NEGLIGIBLE * whole.max()
    local, low, high, mean_distance, chance = (
        torch.where(negligible, torch.nan, values)
        for values in (
            _ratio(effect, distance, reachable),
            *_interval(effect, distance, reachable),
            mean_distance,
            chance,
        )
    )
    farthest = int(distance[torch.isfinite(distance) & pairs.any(0)].max())
    shares = [(effect * (distance == d)).sum((1, 2, 3)) / whole for d in range(farthest + 1)]
    return _Spread(
        locality=local,
        low=low,
        high=high,
        distance=mean_distance,
        chance=chance,
        self_share=(1 - total / whole).clamp(0, 1),
        size=whole / int(mask.sum()),
        by_distance=torch.stack(shares, 1),
        causal=causal,
    )


def _reachable(effect: Tensor, distance: Tensor) -> tuple[Bool[Tensor, "patched read"], bool]:
    """Which other positions can be affected at all, and whether these are later ones only."""
    affected = effect.sum((0, 1))  # (patched, read)
    affected = affected > ROUNDING * affected.max()
    causal = not bool(affected.tril(-1).any()) and bool(affected.triu(1).any())
    others = ~torch.eye(len(distance), dtype=torch.bool) & torch.isfinite(distance)
    return (others.triu() if causal else others), causal


def _ratio(
    effect: Tensor, distance: Tensor, reachable: Bool[Tensor, "batch patched read"]
) -> Float[Tensor, " after"]:
    """Share of the effect on others that falls on neighbours, over that of a uniform effect of the
    same interventions."""
    near = reachable & (distance == 1)
    on_others = (effect * reachable).sum(3)  # (after, batch, patched)
    observed = (effect * near).sum((1, 2, 3)) / on_others.sum((1, 2))
    uniform = near.sum(2) / reachable.sum(2).clamp(min=1)
    return observed / ((on_others * uniform).sum((1, 2)) / on_others.sum((1, 2)))


def _interval(effect: Tensor, distance: Tensor, reachable: Tensor) -> tuple[Tensor, Tensor]:
    """95 % bootstrap interval of the ratio over examples."""
    generator = torch.Generator().manual_seed(0)
    batch = effect.shape[1]
    rows = [torch.randint(0, batch, (batch,), generator=generator) for _ in range(DRAWS)]
    drawn = [_ratio(effect[:, some], distance, reachable[some]) for some in rows]
    levels = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = torch.nanquantile(torch.stack(drawn).double(), levels, dim=0)
    return low.float(), high.float()


def _verdict(spread: _Spread, lost: Float[Tensor, " after"]) -> LocalityVerdict:
    large = 1 - spread.self_share > SHARE
    present = (torch.isfinite(spread.locality) & large).nonzero()[:, 0].tolist()
    if not present:
        hidden = bool((lost > SHARE * spread.size).any()) and float(lost.max()) > SHARE
        return LocalityVerdict.unresolved if hidden else LocalityVerdict.contained
    first = present[0]
    if not (float(spread.locality[first]) >= LOCAL and float(spread.low[first]) > 1):
        return LocalityVerdict.everywhere
    farthest = max(float(spread.distance[i]) for i in present)
    relayed = farthest >= GROWTH * float(spread.distance[first])
    return LocalityVerdict.relayed if relayed else LocalityVerdict.local
