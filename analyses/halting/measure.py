"""When answers halt: iterations run by position, by example and by difficulty, and the verdict."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.arguments import Finite, Index
from loopscope.common.errors import LoopscopeError
from loopscope.common.evidence import LEVEL, Evidence, by_bootstrap, estimate, resample, with_unseen
from loopscope.common.sample_memory import once_per_sample
from loopscope.core.masked import masked_mean
from loopscope.halting.exit_rules import Level, rule_halting
from loopscope.halting.halting_record import Halting
from loopscope.recorder.example_parts import example_parts
from loopscope.recorder.labels import labels_of, task_of
from loopscope.runs.joined_batches import joined_halting
from loopscope.runs.run import Run
from loopscope.runs.run_mask import mask_of
from loopscope.tasks import Batch

from .result import CUT, NEAR, ORDER, RELATED, SAME, SPREAD, HaltingResult, HaltingVerdict
from .variation import Order, Variation, order, variation

ACT = "adaptive computation time"
"""The mechanism that has a remainder and a ponder cost."""
MIN_EXAMPLES = 8


def applies(run: Run) -> bool:
    """Whether the run's model halts."""
    return run.halting is not None


# It is long because the fields of its result are many.
def measure(
    run: Run, *, rule: str | None = None, threshold: Index | Finite | None = None, level: Level = "position"
) -> HaltingResult:
    """When the positions of a run halt, or would halt by an exit rule.

    Arguments:
        rule: name of an exit rule (`loopscope.rules.names()`), "model" for the model's halting at
            another `threshold`; None: the model's own halting.
        threshold: of the rule, in the rule's unit; None: as published.
        level: whether each position halts by itself, or all positions of an example by their mean
            over the answered ones.

    Raises:
        LoopscopeError: the run's model doesn't halt, or there is a threshold without a rule.
    """
    run.require_finite()
    labels, task = labels_of(run), task_of(run)
    halting = _halting(run, rule, threshold, level)
    iteration, halted = halting.iteration.cpu(), halting.halted.cpu()
    n = run.iterations
    mask = mask_of(run, *iteration.shape)
    halts = torch.nn.functional.one_hot(iteration.clamp(max=n - 1), n).float() * halted[..., None]
    answered = mask.any(0) if labels is None else labels.mask.any(0)
    judged = mask & answered if labels is None else mask & labels.mask
    used = iteration.float() + 1
    drawn = judged | (mask & ~judged.any(0))  # where no example has an answer, all of them
    by_example = masked_mean(used, judged, 1)
    share, not_halted = halts[judged].mean(0), (~halted[judged]).float().mean().item()
    difficulty = None if labels is None else labels.difficulty
    kept = judged.any(1).nonzero()[:, 0]
    decided = _decide(
        used[kept], halted[kept], judged[kept], None if difficulty is None else difficulty[kept]
    )
    whole, verdict, evidence, position_order, difficulty_order = decided
    ponders = halting.kind == ACT
    remainder = halting.remainder.cpu() if ponders else torch.full_like(used, torch.nan)
    cost = halting.cost.cpu() if ponders else torch.full_like(used, torch.nan)
    weights = halting.weights.cpu()[:, judged].double()
    counted = torch.arange(1, len(weights) + 1, dtype=torch.float64)[:, None]
    return HaltingResult(
        verdict=verdict,
        evidence=evidence,
        kind=halting.kind,
        share=share,
        by_position=masked_mean(halts, drawn[..., None], 0),
        not_halted=not_halted,
        others_halted=halted[mask & ~judged].float().mean().item(),
        together=bool((used == by_example.round()[:, None])[judged].all()),
        mean=used[judged].mean().item(),
        spread=used[judged].std(correction=0).item(),
        deviation=whole.deviation,
        same=whole.same,
        near=whole.near,
        position_spread=whole.positions,
        example_spread=whole.examples,
        mean_by_position=masked_mean(used, drawn, 0),
        remainder=remainder[judged].mean().item(),
        remainder_by_position=masked_mean(remainder, drawn, 0),
        cost=cost[judged].mean().item(),
        cost_by_position=masked_mean(cost, drawn, 0),
        answered=answered,
        correlation=whole.position_order,
        position_order=position_order,
        difficulty=task.difficulty_unit if labels is not None and task is not None else None,
        **_by_level(labels, by_example, masked_mean(halts, judged[..., None], 1)),
        difficulty_correlation=whole.difficulty_order,
        difficulty_order=difficulty_order,
        by_example=by_example,
        entropy=_exit_entropy(weights),
        expected=float((counted * weights).sum(0).mean()),
        share_entropy=_entropy(torch.cat([share, torch.tensor([not_halted])])),
    )


def _exit_entropy(weights: Float[Tensor, "iteration item"]) -> float:
    """Mean entropy of the exit distributions, in nats."""
    weights = weights.double()
    # 0.0 first: of 0.0 and -0.0, max returns the first.
    return max(0.0, -(weights * weights.clamp(min=1e-300).log()).sum(0).mean().item())


def _halting(run: Run, rule: str | None, threshold: float | int | None, level: Level) -> Halting:
    """The model's own halting, or that of a rule."""
    if rule is None and (threshold is not None or level != "position"):
        raise LoopscopeError("threshold and level need a rule, but none was passed. Pass rule= too.")
    labels = labels_of(run)
    mask = None if labels is None else labels.mask
    halting = run.halting
    if rule is not None:
        parts = [
            rule_halting(part, rule, threshold, level, answer_positions=None if mask is None else mask[rows])
            for rows, part in example_parts(run)
        ]
        halting = parts[0] if len(parts) == 1 else joined_halting(parts)
    if halting is None:
        raise LoopscopeError(
            "halting needs a run of a model that halts, recorded from its first iteration and without "
            f"keep=, but this one ({run.origin.get('entry') or run.origin.get('architecture')}) has no "
            f"halting: every position used all {run.iterations} iterations. Try "
            'universal-prefix-parity-act, or a rule: measure("halting", run, rule="kl").'
        )
    return halting


def _by_level(
    labels: Batch | None, mean: Float[Tensor, " example"], share: Float[Tensor, "example iteration"]
) -> dict[str, Any]:
    """Number of examples, mean and shares at each level of difficulty; fields as in the result."""
    nothing = torch.empty(0, dtype=torch.long)
    levels, index, examples = torch.empty(0), nothing, nothing
    if labels is not None:
        known = ~mean.isnan()  # examples with an answer that counts
        levels, index, examples = labels.difficulty[known].unique(return_inverse=True, return_counts=True)
        mean, share = mean[known], share[known]
    mean_by_level = torch.zeros(len(levels)).index_add(0, index, mean[: len(index)]) / examples
    shares = torch.zeros(len(levels), share.shape[1]).index_add(0, index, share[: len(index)])
    return {
        "levels": levels,
        "examples": examples,
        "by_level": shares / examples[:, None],
        "mean_by_level": mean_by_level,
    }


def _entropy(shares: Tensor) -> float:
    """Entropy of fractions that sum to one, in nats."""
    return max(0.0, -float((shares.double() * shares.double().clamp(min=1e-300).log()).sum()))


def _decide(
    used: Tensor, halted: Tensor, answers: Tensor, difficulty: Tensor | None
) -> tuple[Variation, HaltingVerdict, Evidence, Order, Order]:
    """What varies, the verdict with its evidence, and the orders by position and by difficulty,
    each as the bootstrap samples agree on."""
    of = once_per_sample(lambda draw: variation(used, halted, answers, difficulty, draw))
    count = len(used)
    verdict, evidence = by_bootstrap(
        lambda draw: verdict_on(of(draw)), count, unclear=HaltingVerdict.unclear, least=MIN_EXAMPLES
    )
    estimates = (
        estimate(
            "iterations run, mean over answers", lambda draw: float(used[draw][answers[draw]].mean()), count
        ),
        with_unseen(
            estimate("answers within one iteration of the median", lambda draw: of(draw).near, count), count
        ),
        estimate("standard deviation between positions", lambda draw: of(draw).positions, count),
        estimate("standard deviation between examples", lambda draw: of(draw).examples, count),
        estimate("rank correlation with the position", lambda draw: of(draw).position_order, count),
        estimate("rank correlation with difficulty", lambda draw: of(draw).difficulty_order, count),
    )
    whole = of(torch.arange(count))
    estimates = tuple(e for e in estimates if e.value == e.value)
    samples = [whole, *(of(draw) for draw in resample(count))]
    position = _agreed([order(v.position_order, ORDER) for v in samples], whole.position_order, ORDER)
    level = _agreed([order(v.difficulty_order, RELATED) for v in samples], whole.difficulty_order, RELATED)
    return whole, verdict, replace(evidence, estimates=estimates), position, level


def _agreed(orders: list[Order], correlation: float, threshold: float) -> Order:
    """The order of all examples if 95 % of the samples have it, else unclear."""
    whole = order(correlation, threshold)
    return whole if orders.count(whole) >= LEVEL * len(orders) else "unclear"


def verdict_on(v: Variation) -> HaltingVerdict:
    """The verdict on what varies; unclear where nothing is known."""
    if v.deviation != v.deviation:
        return HaltingVerdict.unclear
    if v.not_halted > CUT:
        return HaltingVerdict.cut
    if v.same > SAME and v.near >= NEAR:
        return HaltingVerdict.constant
    positions, examples = v.positions >= SPREAD, v.examples >= SPREAD  # NaN: one of them only
    if positions and examples:
        return HaltingVerdict.both
    if positions:
        return HaltingVerdict.positions
    return HaltingVerdict.examples if examples else HaltingVerdict.varied
