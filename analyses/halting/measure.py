"""When positions halt: halting iterations by position and by difficulty, ponder cost, entropy, and
the verdict."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.arguments import Finite, Index
from loopscope.common.errors import LoopscopeError
from loopscope.common.text import number, percent
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.core.masked import masked_mean
from loopscope.halting.exit_rules import Level, rule_halting
from loopscope.halting.halting_record import Halting
from loopscope.recorder.labels import labels_of, task_of
from loopscope.runs.run import Run
from loopscope.runs.run_mask import mask_of
from loopscope.tasks import Batch

CUT, SPREAD, ORDER = 0.05, 0.5, 0.9


class HaltingVerdict(Verdict):
    """How halting depends on the position."""

    cut = "The loop ended before many positions had halted, so their halting iterations are unknown."
    constant = "All positions halt at nearly the same iteration, whatever the input."
    later = "Later positions halt later."
    earlier = "Later positions halt earlier."
    varied = "Positions halt at different iterations, in no clear order from left to right."
    unclear = UNCLEAR


@dataclass(frozen=True)
class HaltingResult(AnalysisResult):
    """When the positions of a run halted."""

    verdict: HaltingVerdict
    kind: str
    """The halting mechanism, such as "exit gate" or "rule kl"."""
    share: Float[Tensor, " iteration"]
    """Fraction of all positions that halt in this iteration; positions that never halt count in
    none."""
    by_position: Float[Tensor, "position iteration"]
    """The same at each position: fraction of examples."""
    not_halted: float
    """Fraction of positions that had not halted when the loop ended."""
    mean: float
    """Mean halting iteration."""
    spread: float
    """Its standard deviation over examples and positions, in iterations."""
    mean_by_position: Float[Tensor, " position"]
    """Mean halting iteration of each position."""
    remainder: float
    """Mean remainder, 0..1."""
    remainder_by_position: Float[Tensor, " position"]
    cost: float
    """Mean ponder cost, in iterations."""
    cost_by_position: Float[Tensor, " position"]
    answered: Bool[Tensor, " position"]
    """Positions with an answer; all, if the task is unknown."""
    correlation: float
    """Spearman's rank correlation of the mean halting iteration with the position, over the
    answered ones."""
    difficulty: str | None
    """What the task counts as difficulty; None if the task is unknown."""
    levels: Float[Tensor, " level"]
    """The difficulties that occur, ascending."""
    examples: Int[Tensor, " level"]
    """Number of examples of each difficulty."""
    by_level: Float[Tensor, "level iteration"]
    """Fraction of the answered positions of each difficulty that halt in this iteration."""
    mean_by_level: Float[Tensor, " level"]
    """Mean halting iteration of the answered positions of each difficulty."""
    difficulty_correlation: float
    """Spearman's rank correlation of an example's mean halting iteration with its difficulty."""
    by_example: Float[Tensor, " batch"]
    """Mean halting iteration of each example's answered positions."""
    entropy: float
    """Entropy of the exit distribution in nats, mean over answered positions."""
    share_entropy: float
    """Entropy of the halting iterations over all positions, in nats; positions that never halt
    count as one more iteration."""
    cut_threshold: float = CUT
    """The verdict is `cut` if a larger fraction has not halted."""
    spread_threshold: float = SPREAD
    """The verdict is `constant` below this standard deviation, in iterations."""
    order_threshold: float = ORDER
    """The verdict is `later` or `earlier` if the correlation's modulus is at least this."""

    def summary(self) -> str:
        means = self.mean_by_position[self.answered]
        by_difficulty = ""
        if self.difficulty is not None and not math.isnan(self.difficulty_correlation):
            rank = number(self.difficulty_correlation, 2)
            by_difficulty = (
                f" The rank correlation with an example's difficulty ({self.difficulty}) is {rank}."
            )
        return (
            f"{self.sentence} Halting mechanism: {self.kind}. The mean halting iteration is "
            f"{self.mean:.2f} (standard deviation {self.spread:.2f}, iterations counted from 0); by "
            f"position it ranges from {means.min():.2f} to {means.max():.2f}{self.position_clause()}."
            f"{by_difficulty} The mean remainder is "
            f"{self.remainder:.3f} and the mean ponder cost {self.cost:.2f} iterations. On average the exit "
            f"distribution of a position has an entropy of {self.entropy:.2f} nats; the entropy of the "
            f"halting iterations is {self.share_entropy:.2f} nats. {percent(self.not_halted)} of the "
            f"positions had not halted when the loop ended. Thresholds: cut above {self.cut_threshold:g} "
            f"not halted, constant below a standard deviation of {self.spread_threshold:g}, ordered from a "
            f"correlation of {self.order_threshold:g}."
        )

    def position_clause(self) -> str:
        """The end of a sentence on the means by position: how they depend on the position."""
        if not math.isnan(self.correlation):
            return f"; its rank correlation with the position is {number(self.correlation, 3)}"
        means = self.mean_by_position[self.answered]
        same = len(means) > 1 and bool((means == means[0]).all())
        return ": all positions halt at the same iteration on average" if same else ""


def applies(run: Run) -> bool:
    """Whether the run's model halts."""
    return run.halting is not None


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
    n, positions = run.iterations, iteration.shape[1]
    mask = mask_of(run, *iteration.shape)
    halts = torch.nn.functional.one_hot(iteration.clamp(max=n - 1), n).float() * halted[..., None]
    answered = mask.any(0) if labels is None else labels.mask.any(0)
    judged = mask & answered
    by_position = masked_mean(iteration.float(), mask, 0)
    by_example = masked_mean(iteration.float(), judged, 1)
    correlation = _spearman(torch.arange(positions)[answered], by_position[answered])
    spread = iteration[mask].float().std(correction=0).item()
    share, not_halted = halts[mask].mean(0), (~halted[mask]).float().mean().item()
    remainder, cost = halting.remainder.cpu(), halting.cost.cpu()
    return HaltingResult(
        verdict=_verdict(not_halted, spread, correlation),
        kind=halting.kind,
        share=share,
        by_position=masked_mean(halts, mask[..., None], 0),
        not_halted=not_halted,
        mean=iteration[mask].float().mean().item(),
        spread=spread,
        mean_by_position=by_position,
        remainder=remainder[mask].mean().item(),
        remainder_by_position=masked_mean(remainder, mask, 0),
        cost=cost[mask].mean().item(),
        cost_by_position=masked_mean(cost, mask, 0),
        answered=answered,
        correlation=correlation,
        difficulty=task.difficulty_unit if labels is not None and task is not None else None,
        **_by_level(labels, by_example, masked_mean(halts, judged[..., None], 1)),
        difficulty_correlation=float("nan") if labels is None else _spearman(labels.difficulty, by_example),
        by_example=by_example,
        entropy=_exit_entropy(halting.weights.cpu()[:, judged]),
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
    halting = (
        run.halting if rule is None else rule_halting(run, rule, threshold, level, answer_positions=mask)
    )
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


def _spearman(x: Tensor, y: Tensor) -> float:
    """Spearman's rank correlation over the places where both are known; NaN where one of the two is
    constant."""
    from scipy.stats import spearmanr

    known = ~(x.double().isnan() | y.double().isnan())
    x, y = x[known], y[known]
    if len(x) < 3 or bool((x == x[0]).all()) or bool((y == y[0]).all()):
        return float("nan")
    return float(spearmanr(x.numpy(), y.numpy())[0])  # pyright: ignore[reportArgumentType]


def _verdict(not_halted: float, spread: float, correlation: float) -> HaltingVerdict:
    if not_halted > CUT:
        return HaltingVerdict.cut
    if spread < SPREAD:
        return HaltingVerdict.constant
    if abs(correlation) >= ORDER:
        return HaltingVerdict.later if correlation > 0 else HaltingVerdict.earlier
    return HaltingVerdict.varied
