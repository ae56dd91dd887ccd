"""Effects of patching one position at a time, by distance and iterations after the intervention."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.common.arguments import Count, Index, Positive, PositiveCount, Seed
from loopscope.common.errors import LoopscopeError
from loopscope.common.text import number, percent
from loopscope.patching.counted_cells import unpadded_replacement
from loopscope.patching.donors import donor_pairs, has_donor_pair
from loopscope.patching.patch_cell import PatchCell
from loopscope.patching.patched_forward import PatchedForward, affordable_examples, patchable
from loopscope.patching.replacements import noise, replacement_for
from loopscope.recorder.subset import select_examples
from loopscope.runs.location import places_of
from loopscope.runs.output_logits import position_logits
from loopscope.runs.run import Run, check_uncached
from loopscope.runs.run_mask import counted_vectors, mask_at, rows_that_count

from .change_of_answers import change_of_answers
from .distances import position_distances
from .result import LocalityResult
from .sums import EffectSums
from .verdict import SHARE, decide, interval_of

EXAMPLES, MIN_EXAMPLES, AFTER = 64, 8, 8
Replacement = Literal["donor", "noise"]


def applies(run: Run) -> bool:
    """Whether states can be patched and the loop continued in seconds, and there are enough
    positions."""
    return _patchable(run) and affordable(run) >= MIN_EXAMPLES


def affordable(run: Run) -> int:
    """In how many examples every position can be patched within seconds."""
    return affordable_examples(run, run.states.shape[2] * AFTER, EXAMPLES)


def _patchable(run: Run) -> bool:
    positions = int(mask_at(run, run.states).any(0).sum())
    logits = position_logits(run)
    at_each = logits is not None and logits.shape[1] == run.states.shape[2]
    return patchable(run) and at_each and positions >= 4


# It is long because its docstring explains seven arguments.
def measure(
    run: Run,
    *,
    iteration: Index | None = None,
    iterations_after: Count = AFTER,
    replacement: Replacement = "donor",
    norm: Positive | None = None,
    examples: PositiveCount | Literal["affordable"] | None = "affordable",
    seed: Seed = 0,
) -> LocalityResult:
    """Patch the state at each position in turn and measure the effect on every position's answer.

    Arguments:
        iteration: k of the state that is patched; None: the middle of the run.
        iterations_after: the largest m; fewer where the run ends before.
        replacement: "donor": for each example the state of the next example of the batch with
            another answer; noise if all answers are equal. "noise": see `norm`.
        norm: of the noise, in the state's units; None: the median norm of the state there.
        examples: how many of the run's, from the first on; "affordable": 64, fewer where they
            would take minutes; None: all.
        seed: of the noise.

    Raises:
        LoopscopeError: the run can't be patched or has fewer than 4 positions with an answer.
    """
    run.require_finite()
    check_uncached(run)
    logits = position_logits(run)
    if logits is None or not _patchable(run):
        raise LoopscopeError(
            "locality needs a run without edits of a model with the four functions, with an answer at each "
            f"of 4 positions or more, but got {run!r} whose logits are "
            f"{None if logits is None else tuple(logits.shape)}. Record one."
        )
    most = max(MIN_EXAMPLES, affordable(run)) if examples == "affordable" else examples
    k = run.iterations // 2 if iteration is None else run.states.iteration_at(iteration)
    if replacement == "donor" and has_donor_pair(run):
        run, donor, _ = donor_pairs(run, most)
        replaced, words = replacement_for(run, donor)[0], "the state of another example"
    else:
        run = select_examples(run, rows_that_count(run)[:most])
        length = float(counted_vectors(run, run.states, k).norm(dim=-1).median()) or 1.0
        size = length if norm is None else norm
        replaced = noise(size, seed)
        words = f"itself plus noise of norm {number(size)} ({percent(size / length)} of the state's norm)"
    mask = mask_at(run, run.states)
    resumed = PatchedForward(run, unpadded_replacement(replaced, run.mask))
    effect, lost = _effects(run, resumed, k, iterations_after, mask=mask)
    geometry = position_distances(run, effect.shape[-1])
    sums = EffectSums.of(effect, geometry, _pairs(mask))
    spread, whole = sums.spread(), sums.whole.double().sum(1)
    size = (whole / int(mask.sum())).float()
    hidden = bool((lost > SHARE * size).any()) and float(lost.max()) > SHARE
    verdict, evidence = decide(sums, hidden=hidden)
    intervals = [interval_of(sums, "locality", m) for m in range(len(effect))]
    return LocalityResult(
        verdict=verdict,
        evidence=evidence,
        iteration=k,
        after=tuple(range(len(effect))),
        locality=spread.locality,
        low=torch.tensor([one.low for one in intervals]),
        high=torch.tensor([one.high for one in intervals]),
        distance=spread.distance,
        chance=spread.chance,
        self_share=spread.self_share,
        size=size,
        by_distance=(sums.by_distance.double().sum(1) / whole[:, None]).float(),
        causal=sums.causal,
        unit="output" if logits.shape[-1] == 1 else "nats",
        replacement=words,
        neighbours=geometry.later_neighbours if sums.causal else geometry.neighbours,
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
