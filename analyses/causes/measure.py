"""Normalised effects of patching another example's state, position by position and iteration by
iteration."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.common.arguments import MaskOrPositions, Meaning, PositiveCount
from loopscope.common.errors import LoopscopeError
from loopscope.common.evidence import estimate
from loopscope.core.sites import is_state
from loopscope.core.states import States
from loopscope.patching import effects
from loopscope.patching.donors import has_donor_pair, two_donors
from loopscope.patching.effects_result import Effects, Method
from loopscope.patching.metrics import answer_mask, last_position
from loopscope.patching.patched_forward import affordable_examples, model_to_patch, patchable
from loopscope.runs.output_logits import output_logits, position_logits
from loopscope.runs.run import Run
from loopscope.runs.run_mask import rows_that_count

from .normalised import NormalisedEffects, best_position_effects, whole_effects
from .result import CausesResult
from .third_answers import split, with_third_answers
from .verdict import FULL, NO_EFFECT, decide

MAX_EXAMPLES, MIN_EXAMPLES, MAX_ITERATIONS = 64, 8, 9
GRID_WORK = 1e10
"""Multiplications that single positions may cost at all of the iterations; else they are patched at
three."""
_Several = Annotated[int, Ge(2), Meaning("a whole number, 2 or more")]


def applies(run: Run) -> bool:
    """Whether states can be patched within seconds in several examples, and there are examples with
    different answers."""
    logits = position_logits(run)
    if logits is None or logits.shape[-1] == 1 or not patchable(run):
        return False
    return affordable(run) >= MIN_EXAMPLES and has_donor_pair(run, _answers(run, None)[0])


# It is long because its docstring explains seven arguments.
def measure(
    run: Run,
    *,
    donor: Run | None = None,
    site: str | None = None,
    answer_positions: MaskOrPositions | None = None,
    method: Method = "exact",
    examples: PositiveCount | Literal["affordable"] | None = "affordable",
    iterations: _Several | None = MAX_ITERATIONS,
) -> CausesResult:
    """Patch another example's state, position by position and iteration by iteration.

    Arguments:
        donor: a run of the same shape; None: for each example the next one of the batch with a
            different answer.
        site: what is patched; None: the state, all its tensors jointly.
        answer_positions: positions, or a mask (batch, position), whose answers are judged. None:
            the last position that has an answer.
        method: "exact", or "attribution" for a quick estimate of single positions.
        examples: how many of the run's; "affordable": 64, fewer where they would take minutes;
            None: all. With `donor` all of them.
        iterations: how many of them, evenly spaced, with the first, the middle and the last; None:
            all. Single positions are patched at all of these too if that is cheap, else at the
            middle, the last and a late one between.

    Raises:
        LoopscopeError: the states aren't finite, the output isn't (batch, position, vocab), all
            examples have the same answer, or the site has no positions.
    """
    _check(run)
    mask, answers = _answers(run, answer_positions)
    second, others, without = donor, 0, 0
    if donor is None:
        most = max(MIN_EXAMPLES, affordable(run)) if examples == "affordable" else examples
        counted = len(rows_that_count(run))
        run, donor, second, rows, others = two_donors(run, most, mask)
        without = counted - len(rows) if most is None or len(rows) < most else 0
        mask = mask[rows]
    assert second is not None
    with_positions, fields = _fields(run) if site is None else ([site], [site])
    patched = partial(effects, run, donor, jointly=True, answer_positions=mask)
    metric = with_third_answers(run, donor, mask)
    ks = spaced(run, site, iterations)
    full, third = split(patched(sites=fields, iterations=ks, positions="all", metric=metric))
    middle = _middle(full.iterations)
    where = position_iterations(run, full.iterations, every=iterations is None)
    grid = patched(sites=with_positions, iterations=where, method=method)
    _require_positions(grid, site)
    whole = whole_effects(full)
    best, third_best = best_position_effects(run, grid, second, sites=with_positions, answer_positions=mask)
    only_state = full.iterations[0] == 0 and fields[0] != site and whole.is_whole(0, FULL)
    i, j = full.iterations.index(middle), where.index(middle)
    thirds = torch.stack([third[i], third_best[j]])
    verdict, evidence = _judged(whole, best, thirds, i, j, middle, only_state=only_state)
    effect = grid.carried[0, :, :, 0]
    return CausesResult(
        verdict=verdict,
        evidence=evidence,
        site="state" if site is None else grid.sites[0],
        iterations=full.iterations,
        middle=middle,
        whole_state=whole.mean(),
        whole_interval=whole.intervals(),
        third_answers=third.nanmean(1),
        best_third_answers=third_best.nanmean(1),
        positions=tuple(group[0] for group in grid.positions),
        position_iterations=grid.iterations,
        effect=effect,
        best_position=best.mean(),
        best_interval=best.intervals(),
        second_donors=others,
        effective_positions=_effective_positions(effect),
        depth=run.iterations,
        examples=evidence.examples,
        source="another example" if grid.source == "the donor run" else grid.source,
        method=method,
        agreement=grid.agreement,
        metric=grid.metric,
        answers=answers,
        tensors=tuple(fields),
        without_donor=without,
        only_state=only_state,
        fall=whole.largest_fall(full.iterations),
    )


def _judged(
    whole: NormalisedEffects,
    best: NormalisedEffects,
    thirds: Float[Tensor, "patch example"],
    i: int,
    j: int,
    middle: int,
    *,
    only_state: bool,
) -> tuple[Any, Any]:
    """(verdict, evidence) of the effects at the middle, whose index is i in `whole` and j in
    `best`.

    Arguments:
        thirds: fractions of third answers there, by the whole state and by the best position.
    """
    rows = (whole.differences.isfinite() & best.differences.isfinite()).nonzero()[:, 0]
    whole, best, thirds = whole.of(rows), best.of(rows), thirds[:, rows.cpu()]

    def third(draw: Tensor) -> float:
        return float(thirds[:, draw].nanmean(1).amax())

    def statistics(draw: Tensor) -> tuple[float, ...]:
        means = whole.mean(draw)
        largest = float(means.nan_to_num(-torch.inf).amax())
        return float(means[i]), float(best.mean(draw)[j]), largest, third(draw)

    verdict, evidence = decide(statistics, len(rows), only_state=only_state)
    estimates = (
        whole.estimate(f"normalised effect of the whole state at {middle}", i),
        best.estimate(f"normalised effect of the best single position at {middle}", j),
        estimate(f"fraction of answers that become third ones at {middle}", third, len(rows)),
    )
    return verdict, replace(evidence, estimates=estimates)


def _check(run: Run) -> None:
    run.require_finite()
    model_to_patch(run)  # which says what it needs
    if position_logits(run) is None:
        if run.has_model and not run.reader.output_is_logits:
            run.logits[run.iterations]  # which says how to name what returns them
        logits = output_logits(run)
        given = f"a {type(run.output).__name__} without logits" if logits is None else tuple(logits.shape)
        raise LoopscopeError(
            f"causes compares answers with logits (batch, position, vocab), but this run's output is "
            f"{given}. Use ls.effects(run, donor, metric=...) with a function of it."
        )


def _require_positions(grid: Effects, site: str | None) -> None:
    if (site is not None and " + " in grid.sites[0]) or not grid.positions[0]:
        raise LoopscopeError(
            f"causes patches one site with positions, but '{site}' gives {list(grid.sites)}. For others: "
            "ls.effects(run, donor, sites=...)."
        )


def _effective_positions(effect: Float[Tensor, "iteration position"]) -> Float[Tensor, " iteration"]:
    """The participation ratio of the effects over positions; NaN where there is no effect."""
    size = effect.abs().sum(1)
    return torch.where(size > NO_EFFECT / 10, size**2 / (effect**2).sum(1), torch.nan)


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


def spaced(run: Run, site: str | None, count: int | None) -> list[int] | None:
    """Evenly spaced iterations, among them the first that is known, the middle and the last; None
    for all."""
    start = run.states.iterations[0] if site is None or is_state(site) else 0
    last = run.iterations if site is None or is_state(site) else run.iterations - 1
    if count is None or last - start + 1 <= count:
        return None
    even = {start + round(i * (last - start) / (count - 1)) for i in range(count)}
    return sorted({last // 2} | even)


def _middle(iterations: Sequence[int]) -> int:
    """The iteration nearest to halfway, the earlier of two; not the last if there is another."""
    return min(iterations[:-1] or iterations, key=lambda k: (abs(k - iterations[-1] / 2), k))


def position_iterations(run: Run, iterations: Sequence[int], *, every: bool) -> list[int]:
    """Where single positions are patched: at all of the iterations if asked for or cheap, else at
    the middle, the last and a late one between."""
    each = run.states.shape[2] ** 2 * sum(p.numel() for p in run.model.parameters())
    work = each * MAX_EXAMPLES * sum(run.iterations - k for k in iterations)
    if every or work <= GRID_WORK:
        return list(iterations)
    middle, last = _middle(iterations), iterations[-1]
    between = min(iterations, key=lambda k: abs(k - (middle + 3 * last) / 4))
    return sorted({middle, between, last})


def affordable(run: Run) -> int:
    """In how many examples states can be patched within seconds."""
    n = run.iterations
    iterations = spaced(run, None, MAX_ITERATIONS) or range(n + 1)
    where = position_iterations(run, iterations, every=False)
    passes = sum(n - k for k in iterations) + run.states.shape[2] * sum(n - k for k in where)
    return affordable_examples(run, passes, MAX_EXAMPLES)
