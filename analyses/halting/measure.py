"""The measurement: halting of a run. See the package for the question and its references."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.common.result import AnalysisResult, Verdict
from loopscope.common.text import number, percent
from loopscope.halting.exit_rules import Level, rule_halting
from loopscope.halting.halting_record import Halting
from loopscope.recorder.labels import labels_of, task_of
from loopscope.runs.run import Run
from loopscope.tasks import Batch

CUT, SPREAD, ORDER = 0.05, 0.5, 0.9


class Stops(Verdict):
    """When positions halt."""

    cut = "The loop ended before a good part of the positions had halted, so their halting iterations are unknown."
    constant = "Every position halts at nearly the same iteration, whatever it is asked."
    later = "Later positions halt later."
    earlier = "Later positions halt earlier."
    varied = "Positions halt at different iterations, in no clear order from left to right."


@dataclass(frozen=True)
class HaltingTimes(AnalysisResult):
    """When the positions of a run halted."""

    verdict: Stops
    kind: str
    """What decided it, such as "exit gate" or "rule kl"."""
    share: Float[Tensor, " iteration"]
    """Fraction of all positions that halt in this iteration; those that never halt are missing."""
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
    """Positions that are asked for an answer; all, if the task isn't known."""
    correlation: float
    """Spearman's rank correlation of the mean halting iteration with the position, over the
    answered ones."""
    difficulty: str | None
    """What the task counts as difficulty; None if it isn't known."""
    levels: Float[Tensor, " level"]
    """The difficulties that occur."""
    examples: Int[Tensor, " level"]
    """How many examples have them."""
    by_level: Float[Tensor, "level iteration"]
    """Fraction of their answered positions that halt in this iteration."""
    mean_by_level: Float[Tensor, " level"]
    """Mean halting iteration of the answered positions of these examples."""
    difficulty_correlation: float
    """Spearman's rank correlation of an example's mean halting iteration with its difficulty."""
    by_example: Float[Tensor, " batch"]
    """Mean halting iteration of each example's answered positions."""
    entropy: float
    """Of the exit distribution, nats: mean over answered positions."""
    share_entropy: float
    """Of the halting iterations over all positions, nats; those that never halt count as one more
    iteration."""
    cut_threshold: float = CUT
    """The verdict is `cut` if a larger fraction has not halted."""
    spread_threshold: float = SPREAD
    """The verdict is `constant` below this standard deviation, in iterations."""
    order_threshold: float = ORDER
    """The verdict is `later` or `earlier` from this size of the correlation on."""

    def summary(self) -> str:
        means = self.mean_by_position[self.answered]
        hard = ""
        if self.difficulty is not None:
            rank = number(self.difficulty_correlation, 2)
            hard = f" Its rank correlation with an example's difficulty ({self.difficulty}) is {rank}."
        return (
            f"{self.verdict.sentence} What decides is the {self.kind}. The mean halting iteration is "
            f"{self.mean:.2f} (standard deviation {self.spread:.2f}, iterations counted from 0); by "
            f"position it goes from {means.min():.2f} to {means.max():.2f}, with a rank correlation of "
            f"{number(self.correlation, 3)} with the position.{hard} The mean remainder is "
            f"{self.remainder:.3f}, the mean ponder cost {self.cost:.2f} iterations; the exit distribution "
            f"of a position has an entropy of {self.entropy:.2f} nats in the mean, the halting iterations "
            f"one of {self.share_entropy:.2f}; {percent(self.not_halted)} of the positions had not halted "
            f"when the loop ended. Thresholds: cut above {self.cut_threshold:g} not halted, constant below "
            f"a deviation of {self.spread_threshold:g}, ordered from a correlation of "
            f"{self.order_threshold:g}."
        )


def applies(run: Run) -> bool:
    """Whether the run's model halts."""
    return run.halting is not None


def measure(
    run: Run, *, rule: str | None = None, threshold: float | int | None = None, level: Level = "position"
) -> HaltingTimes:
    """When the positions of a run halt, or would by a rule.

    Arguments:
        rule: None: the model's own halting. The name of a rule that is read from the run
            (`loopscope.rules.names()`), or "model": the model's gate at another `threshold`.
        threshold: the rule's, in its own unit; None: as published.
        level: whether positions stop by themselves, or all of an example by the mean over those
            that answer.

    Raises:
        LoopscopeError: the run's model doesn't halt, or a threshold without a rule.
    """
    run.require_finite()
    labels, task = labels_of(run), task_of(run)
    halting = _halting(run, rule, threshold, level)
    when, halted = halting.iteration.cpu(), halting.halted.cpu()
    n, positions = run.iterations, when.shape[1]
    own = torch.nn.functional.one_hot(when.clamp(max=n - 1), n).float() * halted[..., None]
    answered = torch.ones(positions, dtype=torch.bool) if labels is None else labels.mask.any(0)
    means, mean = when.float().mean(0), when.float()[:, answered].mean(1)
    weights = halting.weights.cpu()[:, :, answered].double()
    entropy = -(weights * weights.clamp(min=1e-300).log()).sum(0)
    correlation = _spearman(torch.arange(positions)[answered], means[answered])
    spread, missing = when.float().std(correction=0).item(), (~halted).float().mean().item()
    return HaltingTimes(
        verdict=_verdict(missing, spread, correlation),
        share=own.mean((0, 1)),
        by_position=own.mean(0),
        not_halted=missing,
        mean=when.float().mean().item(),
        spread=spread,
        mean_by_position=means,
        remainder=halting.remainder.mean().item(),
        remainder_by_position=halting.remainder.mean(0).cpu(),
        cost=halting.cost.mean().item(),
        cost_by_position=halting.cost.mean(0).cpu(),
        answered=answered,
        correlation=correlation,
        difficulty=task.difficulty_unit if labels is not None and task is not None else None,
        **_by_level(labels, mean, own[:, answered].mean(1)),
        by_example=mean,
        entropy=max(entropy.mean().item(), 0.0),
        share_entropy=_entropy(torch.cat([own.mean((0, 1)), torch.tensor([missing])])),
        kind=halting.kind,
        difficulty_correlation=float("nan") if labels is None else _spearman(labels.difficulty, mean),
    )


def _halting(run: Run, rule: str | None, threshold: float | int | None, level: Level) -> Halting:
    """The model's own, or that by a rule."""
    if rule is None and (threshold is not None or level != "position"):
        raise LoopscopeError("threshold and level belong to a rule, but none was named. Pass rule= too.")
    labels = labels_of(run)
    asked = None if labels is None else labels.mask
    halting = (
        run.halting if rule is None else rule_halting(run, rule, threshold, level, answer_positions=asked)
    )
    if halting is None:
        raise LoopscopeError(
            "halting needs a run of a model that halts, recorded from its first iteration and without "
            "keep=, but this one "
            f"({run.origin.get('entry') or run.origin.get('architecture')}) has none: every position used "
            "all "
            f'{run.iterations} iterations. Try universal-prefix-parity-act, or a rule: measure("halting", '
            'run, rule="kl").'
        )
    return halting


def _by_level(
    labels: Batch | None, mean: Float[Tensor, " example"], share: Float[Tensor, "example iteration"]
) -> dict[str, Any]:
    """Examples, mean and shares at each level of difficulty; fields as in the result."""
    levels, place, examples = (
        torch.empty(0),
        torch.empty(0, dtype=torch.long),
        torch.empty(0, dtype=torch.long),
    )
    if labels is not None:
        levels, place, examples = labels.difficulty.unique(return_inverse=True, return_counts=True)
    mean_by_level = torch.zeros(len(levels)).index_add(0, place, mean[: len(place)]) / examples
    shares = torch.zeros(len(levels), share.shape[1]).index_add(0, place, share[: len(place)])
    return {
        "levels": levels,
        "examples": examples,
        "by_level": shares / examples[:, None],
        "mean_by_level": mean_by_level,
    }


def _entropy(shares: Tensor) -> float:
    """Of fractions that sum to one, in nats."""
    return max(0.0, -float((shares.double() * shares.double().clamp(min=1e-300).log()).sum()))


def _spearman(x: Tensor, y: Tensor) -> float:
    """Rank correlation; NaN where one of the two never changes."""
    from scipy.stats import spearmanr

    if len(x) < 3 or bool((x == x[0]).all()) or bool((y == y[0]).all()):
        return float("nan")
    return float(spearmanr(x.numpy(), y.numpy())[0])  # pyright: ignore[reportArgumentType]


def _verdict(missing: float, spread: float, correlation: float) -> Stops:
    if missing > CUT:
        return Stops.cut
    if spread < SPREAD:
        return Stops.constant
    if abs(correlation) >= ORDER:
        return Stops.later if correlation > 0 else Stops.earlier
    return Stops.varied
