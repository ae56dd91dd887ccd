"""Training-free looping (Chen et al. 2026, arXiv 2605.23872): the score of a feed-forward model
with each window of its layers repeated by each update rule, and the criteria of the published
order, which were fixed before the first measurement."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..common.bands import mean_band
from ..common.errors import LoopscopeError
from ..common.evidence import Estimate
from ..common.paired_shares import paired_difference
from ..core.output_logits import find_logits
from ..core.sites import modules_of
from ..tasks import Batch
from ..wrapping.layer_names import layer_names
from ..wrapping.update_rules import RULES
from ..wrapping.wrap_module import wrap

if TYPE_CHECKING:
    from torch import nn

LENGTHS = (1, 2, 4)
"""Layers of a window."""
REPEATS = (2, 3, 4)


@dataclass(frozen=True)
class WindowScores:
    """How right the answers to each example are, in one pass and with each window repeated."""

    layers: int
    windows: tuple[tuple[int, int], ...]
    """The first layer of each window and the one after its last."""
    repeats: tuple[int, ...]
    rules: tuple[str, ...]
    once: Float[Tensor, " example"]
    """Share of correct answers in one pass."""
    looped: Float[Tensor, "rule window repeat example"]
    example: Int[Tensor, " example"]
    """The same number for the same tokens: a task of few examples gives some of them twice."""

    @property
    def different(self) -> int:
        """Examples that differ from each other."""
        return int(self.example.max()) + 1

    @property
    def middle(self) -> tuple[int, int]:
        """The window of two layers in the middle of the stack."""
        first = (self.layers - 2) // 2
        return first, first + 2

    def of(self, rule: str) -> Float[Tensor, "window repeat example"]:
        """The scores by one rule."""
        return self.looped[self.rules.index(rule)]

    def in_the_middle(self, rule: str, repeat: int = 2) -> Float[Tensor, " example"]:
        """The scores with the middle window repeated."""
        return self.of(rule)[self.windows.index(self.middle), self.repeats.index(repeat)]


@dataclass(frozen=True)
class Criterion:
    """One part of the published order, and whether it holds."""

    difference: Estimate
    """Of two scores, with its 95 % interval over different examples."""
    holds: bool
    """By the difference itself, as it was fixed: the interval has no say."""
    gained: int | None = None
    """Answers of different examples that become right, where two single cases are compared."""
    lost: int | None = None


@torch.no_grad()
def window_scores(
    model: "nn.Module",
    batch: Batch,
    layers: str = "core",
    *,
    lengths: tuple[int, ...] = LENGTHS,
    windows: tuple[tuple[int, int], ...] | None = None,
    repeats: tuple[int, ...] = REPEATS,
    rules: tuple[str, ...] = tuple(RULES),
) -> WindowScores:
    """Score a feed-forward model with every window of its layers repeated, without training.

    >>> model = ls.models.load("stack-hops")
    >>> scores = window_scores(model, model.task.batch(2000, seed=2024))
    >>> [one.holds for one in criteria(scores)]

    Arguments:
        model: whose output holds logits.
        batch: tokens with the correct token at each position of the mask.
        layers: the list of layers, such as "model.layers".
        lengths: of the windows, in layers.
        windows: the first layer of each and the one after its last; None: all of these lengths.
        repeats: how often a window runs.
        rules: names of update rules.

    Raises:
        LoopscopeError: no window of these lengths fits into the stack, or `ls.wrap` refuses it.
    """
    count = len(layer_names(f"{layers}.:", modules_of(model)))
    if windows is None:
        windows = tuple((first, first + n) for n in lengths for first in range(count - n + 1))
    if not windows:
        raise LoopscopeError(
            f"lengths must have one of at most {count}, the layers of {layers!r}, but is {lengths}. Choose "
            "shorter windows."
        )
    tokens, example = batch.tokens.unique(dim=0, return_inverse=True)
    representative = torch.empty(len(tokens), dtype=torch.long)
    representative[example.cpu()] = torch.arange(len(example))
    targets, mask = batch.targets[representative], batch.mask[representative]

    def score(net: Any) -> Tensor:
        logits = find_logits(net(tokens))
        assert logits is not None  # `wrap` has seen them
        correct = (logits.argmax(-1) == targets) & mask
        return (correct.sum(1) / mask.sum(1)).double().cpu()[example.cpu()]

    def looped(rule: str, window: tuple[int, int], repeat: int) -> Tensor:
        return score(wrap(model, body=f"{layers}.{window[0]}:{window[1]}", repeat=repeat, update=rule))

    scores = [[torch.stack([looped(r, w, k) for k in repeats]) for w in windows] for r in rules]
    return WindowScores(
        layers=count,
        windows=windows,
        repeats=tuple(repeats),
        rules=tuple(rules),
        once=score(model),
        looped=torch.stack([torch.stack(of_rule) for of_rule in scores]),
        example=example.cpu(),
    )


def criteria(scores: WindowScores) -> tuple[Criterion, Criterion, Criterion]:
    """The three parts of the published order: plain repetition is worse than one pass, damped is
    better than plain, and `middle_criterion`."""
    plain, damped = (scores.of(rule).mean((0, 1)) for rule in ("plain", "damped"))
    worse = _mean_difference("plain repetition against one pass", plain - scores.once, scores.example)
    better = _mean_difference("damped against plain repetition", damped - plain, scores.example)
    return (
        Criterion(worse, worse.value < 0),
        Criterion(better, better.value > 0),
        middle_criterion(scores),
    )


def middle_criterion(scores: WindowScores) -> Criterion:
    """Whether damped is at least as good as one pass in the middle of the stack, with K = 2. The
    interval is that of different examples, each counted once."""
    name = "damped against one pass in the middle"
    damped = scores.in_the_middle("damped")
    difference = _mean_difference(name, damped - scores.once, scores.example)
    if not bool(torch.cat([damped, scores.once]).frac().eq(0).all()):  # several answers in an example
        return Criterion(difference, difference.value >= 0)
    change = torch.zeros(scores.different, dtype=torch.double)
    change[scores.example] = damped - scores.once
    gained, lost = int((change > 0).sum()), int((change < 0).sum())
    interval = paired_difference(name, gained, lost, scores.different)
    difference = replace(interval, value=difference.value)
    return Criterion(difference, difference.value >= 0, gained, lost)


def _mean_difference(name: str, change: Tensor, example: Tensor) -> Estimate:
    low, high = mean_band(change, example)
    return Estimate(name, float(change.mean()), float(low), float(high))
