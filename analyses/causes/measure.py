"""Normalised effects of patching another example's state, position by position and iteration by
iteration."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
from annotated_types import Ge
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.arguments import MaskOrPositions, Meaning, PositiveCount
from loopscope.common.errors import LoopscopeError
from loopscope.common.text import percent
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.core.sites import is_state
from loopscope.core.states import States
from loopscope.patching import AttributionAgreement, effects
from loopscope.patching.donors import donor_pairs, has_donor_pair
from loopscope.patching.effects_result import Effects, Method
from loopscope.patching.metrics import answer_mask, last_position
from loopscope.patching.patched_forward import affordable, model_to_patch, patchable
from loopscope.runs.run import Run

EFFECT_THRESHOLD, NO_EFFECT_THRESHOLD = 0.5, 0.1
MAX_EXAMPLES, MAX_ITERATIONS = 4, 9
_Several = Annotated[int, Ge(2), Meaning("a whole number, 2 or more")]


class CausesVerdict(Verdict):
    """Where the answer is carried."""

    gathered = "A single position carries the answer: patching its state alone changes the answer."
    spread = "The state as a whole carries the answer, but no single position does."
    forgotten = (
        "The loop forgets its state: patching an early state has no effect on the answer, which depends on "
        "what later iterations read from the input."
    )
    nothing = (
        "No state carries the answer: patching has no effect at any iteration, even before the read-out."
    )
    unclear = UNCLEAR


@dataclass(frozen=True)
class CausesResult(AnalysisResult):
    """Effects of patching states of another example."""

    verdict: CausesVerdict
    site: str
    iterations: tuple[int, ...]
    """Where states were patched: k of `state`, t of a site inside the body."""
    positions: tuple[int, ...]
    effect: Float[Tensor, "iteration position"]
    """Normalised effect of patching one position (0 none, 1 the donor's answer); means over
    examples."""
    whole_state: Float[Tensor, " iteration"]
    """Normalised effect of patching all positions."""
    best_position: Float[Tensor, " iteration"]
    """The largest effect of a single position."""
    effective_positions: Float[Tensor, " iteration"]
    """Over how many positions the effects are spread, as a participation ratio; NaN where there is
    no effect."""
    depth: int
    """Iterations of each pass."""
    examples: int
    source: str
    """Where the patched states come from, in words."""
    method: str
    agreement: AttributionAgreement | None
    """Of attribution with exact patches; None for exact patches."""
    metric: str
    answers: str
    """Which answers are judged, in words."""
    effect_threshold: float = EFFECT_THRESHOLD
    """A state, or a position, carries the answer if its effect is this large."""
    no_effect_threshold: float = NO_EFFECT_THRESHOLD
    """Below this there is no effect."""

    def summary(self) -> str:
        middle = len(self.iterations) // 2
        effects = "; ".join(
            f"after {self.iterations[i]} of {self.depth} iterations "
            f"{percent(float(self.whole_state[i].clamp(0, 1)))} for the whole state, "
            f"{percent(float(self.best_position[i].clamp(0, 1)))} for the best single position"
            for i in dict.fromkeys((0, middle, len(self.iterations) - 1))
        )
        estimated = (
            ""
            if self.agreement is None
            else " These are first-order estimates, whose correlation with exact patches is "
            f"{self.agreement.correlation:.2f} on {self.agreement.cells} cells."
        )
        return (
            f"{self.sentence} '{self.site}' of {self.source} is patched in, in {self.examples} "
            f"examples of {self.depth} iterations, judged by {self.answers}. Normalised effect: {effects}."
            f"{estimated} Thresholds: a state carries the answer from an effect of {self.effect_threshold:g} "
            f"on; below {self.no_effect_threshold:g} there is no effect."
        )


def applies(run: Run) -> bool:
    """Whether states can be patched within seconds, and there are examples with different
    answers."""
    if not patchable(run) or run.output.shape[-1] == 1:
        return False
    cells = run.states.shape[2] * min(MAX_ITERATIONS, run.iterations + 1)
    return affordable(run, cells, MAX_EXAMPLES, run.iterations) and has_donor_pair(
        run, _answers(run, None)[0]
    )


def measure(
    run: Run,
    *,
    donor: Run | None = None,
    site: str | None = None,
    answer_positions: MaskOrPositions | None = None,
    method: Method = "exact",
    examples: PositiveCount | None = MAX_EXAMPLES,
    iterations: _Several | None = MAX_ITERATIONS,
) -> CausesResult:
    """Patch another example's state, position by position and iteration by iteration.

    Arguments:
        donor: a run of the same shape; None: for each example the next one of the batch with a
            different answer.
        site: what is patched; None: the state, all its tensors jointly.
        answer_positions: positions, or a mask (batch, position), whose answers are judged. None:
            the last position that has an answer.
        method: "exact", or "attribution" for a quick estimate.
        examples: how many of the run's; None: all. With `donor` all of them.
        iterations: how many of them, evenly spaced, with the first and the last; None: all.

    Raises:
        LoopscopeError: the states aren't finite, the output isn't (batch, position, vocab), all
            examples have the same answer, or the site has no positions.
    """
    _check(run)
    mask, answers = _answers(run, answer_positions)
    if donor is None:
        run, donor, rows = donor_pairs(run, examples, mask)
        mask = mask[rows]
    with_positions, fields = _fields(run) if site is None else ([site], [site])
    spaced = _spaced(run, site, iterations)
    patched = partial(effects, run, donor, jointly=True, answer_positions=mask)
    grid = patched(sites=with_positions, iterations=spaced, method=method)
    _require_positions(grid, site)
    full = patched(sites=fields, iterations=grid.iterations, positions="all")
    effect, whole_state, best = grid.carried[0, :, :, 0], full.carried[0, :, 0, 0], _best_position(grid)
    return CausesResult(
        verdict=_verdict(grid.iterations, run.iterations, whole_state, best),
        site="state" if site is None else grid.sites[0],
        iterations=grid.iterations,
        positions=tuple(group[0] for group in grid.positions),
        effect=effect,
        whole_state=whole_state,
        best_position=best,
        effective_positions=_effective_positions(effect),
        depth=run.iterations,
        examples=int(_counted_values(grid)[0].isfinite().any(0).sum()),
        source="another example" if grid.source == "the donor run" else grid.source,
        method=method,
        agreement=grid.agreement,
        metric=grid.metric,
        answers=answers,
    )


def _check(run: Run) -> None:
    run.require_finite()
    model_to_patch(run)  # which says what it needs
    if run.output.ndim != 3:
        raise LoopscopeError(
            "causes compares answers (batch, position, vocab), but this run's output is "
            f"{tuple(run.output.shape)}. Use ls.effects(run, donor, metric=...) with a function of it."
        )


def _require_positions(grid: Effects, site: str | None) -> None:
    if (site is not None and " + " in grid.sites[0]) or not grid.positions[0]:
        raise LoopscopeError(
            f"causes patches one site with positions, but '{site}' gives {list(grid.sites)}. For others: "
            "ls.effects(run, donor, sites=...)."
        )


def _best_position(grid: Effects) -> Float[Tensor, " iteration"]:
    """The normalised effect of the best position of each example, mean over examples."""
    assert grid.target is not None
    values = _counted_values(grid)
    best = values.nan_to_num(-torch.inf, torch.inf).amax(1)
    return best.where(best > -torch.inf, torch.nan).nanmean(1) / (grid.target - grid.base).nanmean()


def _counted_values(grid: Effects) -> Float[Tensor, "iteration position example"]:
    """The effects of single positions; NaN where an example doesn't count."""
    values = grid.values[0, :, :, 0]
    return values if grid.counted is None else values.where(grid.counted, torch.nan)


def _effective_positions(effect: Float[Tensor, "iteration position"]) -> Float[Tensor, " iteration"]:
    """The participation ratio of the effects over positions; NaN where there is no effect."""
    size = effect.abs().sum(1)
    return torch.where(size > NO_EFFECT_THRESHOLD / 10, size**2 / (effect**2).sum(1), torch.nan)


def _answers(run: Run, answer_positions: Any) -> tuple[Bool[Tensor, "batch position"], str]:
    """The positions whose answers are judged, and what they are in words."""
    mask = answer_mask(run, answer_positions)
    several = bool((mask.sum(1) > 1).any())
    if answer_positions is None and several:
        return last_position(mask), "the answer at the last answer position"
    return mask, "the answers at all answer positions" if several else "the answer at the answer position"


def _fields(run: Run) -> tuple[list[str], list[str]]:
    """The state's tensors that have as many positions as the state, and all of them."""
    fields = [name for name in run.names if is_state(name)]
    size = run.states.shape[2]
    return [name for name in fields if _position_count(run[name]) == size], fields


def _position_count(states: States) -> int | None:
    return states.shape[states.axes.index("position")] if "position" in states.axes else None


def _spaced(run: Run, site: str | None, count: int | None) -> list[int] | None:
    """Evenly spaced iterations, the first and the last among them; None for all."""
    n = run.iterations if site is None or is_state(site) else run.iterations - 1
    if count is None or n + 1 <= count:
        return None
    return sorted({round(i * n / (count - 1)) for i in range(count)})


def _verdict(iterations: tuple[int, ...], n: int, whole_state: Tensor, best: Tensor) -> CausesVerdict:
    carrying = [i for i in range(len(iterations)) if float(whole_state[i]) >= EFFECT_THRESHOLD]
    largest = torch.maximum(whole_state, best)
    if not carrying and float(largest.nan_to_num().amax()) < EFFECT_THRESHOLD:
        return CausesVerdict.nothing
    early = [i for i, k in enumerate(iterations) if k <= n / 2]
    if early and float(largest[early].nan_to_num().amax()) < NO_EFFECT_THRESHOLD:
        return CausesVerdict.forgotten
    inside = [i for i in carrying if iterations[i] < n] or carrying
    return (
        CausesVerdict.gathered if float(best[inside].median()) >= EFFECT_THRESHOLD else CausesVerdict.spread
    )
