"""Where early exits are decided: the named rules, and when they stop the positions of a run.

    rule = exit_rules.get_rule("kl")
    halting = exit_rules.rule_halting(run, rule)          # a Halting, as a model's own

A position stops after the first iteration whose score is at or below the threshold. `rule` says
what a rule is; `state_rules`, `answer_rules` and `model_rules` hold the rules themselves.
"""

from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..common.guard import guarded
from .answer_rules import ANSWER_RULES
from .halting_record import Halting
from .model_rules import NAME as MODEL
from .rule import Rule
from .state_rules import STATE_RULES

if TYPE_CHECKING:
    from ..runs.run import Run

Level = Literal["position", "example"]
"""position: each position decides for itself. example: the mean over the example's answer positions
decides for all of them, as in Huginn's code."""

RULES: dict[str, Rule] = {rule.name: rule for rule in (*STATE_RULES, *ANSWER_RULES)}
"""Rules that can be read from any run with logits, by name, with the thresholds of their
sources."""


def names() -> list[str]:
    """The names of the rules that can be read from any run with logits."""
    return list(RULES)


@guarded
def get_rule(rule: str | Rule, model: Any = None) -> Rule:
    """A rule by name. "model" is the model's own halting; a Rule is returned as it is.

    Raises:
        LoopscopeError: an unknown name, or "model" for a model that doesn't halt.
    """
    if isinstance(rule, Rule):
        return rule
    if rule == MODEL:
        result = model_rule(model)
        if result is None:
            raise LoopscopeError(
                f"the rule 'model' needs a model that halts by itself, but {type(model).__name__} doesn't. "
                f"Choose one that is read from the run: {', '.join(RULES)}."
            )
        return result
    if rule not in RULES:
        raise LoopscopeError(f"there is no rule called {rule!r}. {nearest(str(rule), [*RULES, MODEL])}")
    return RULES[rule]


@guarded
def model_rule(model: Any) -> Rule | None:
    """The model's own halting as a rule, whose threshold can be changed; None for a model that
    doesn't halt."""
    return getattr(model, "rule", None)


def scores_at_level(
    score: Float[Tensor, "*iteration batch position"],
    level: Level,
    answer_positions: Bool[Tensor, "batch position"] | None = None,
) -> Float[Tensor, "*iteration batch position"]:
    """The scores that decide: each position's, or at every position the mean over the example's
    answer positions.

    Arguments:
        answer_positions: the positions that the mean is over; None means all.

    Raises:
        LoopscopeError: an unknown level.
    """
    if level not in ("position", "example"):
        raise LoopscopeError(
            f"level must be 'position' or 'example', but is {level!r}. Choose one of the two."
        )
    if level == "position":
        return score
    weight = torch.ones_like(score) if answer_positions is None else answer_positions.to(score)
    weight = weight.expand_as(score)
    inside = torch.where(weight > 0, score, torch.zeros_like(score))  # infinity times 0 is NaN
    mean = (inside * weight).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True).clamp(min=1)
    return mean.expand_as(score)


def first_stop(
    stops: Bool[Tensor, "iteration ..."],
) -> tuple[Int[Tensor, "..."], Bool[Tensor, "..."]]:
    """(0-based iteration of the first stop, or the last iteration; whether there was a stop)."""
    halted = stops.any(0)
    return torch.where(halted, stops.int().argmax(0), len(stops) - 1), halted


@guarded
def rule_halting(
    run: "Run",
    rule: str | Rule,
    threshold: float | None = None,
    level: Level = "position",
    *,
    answer_positions: Bool[Tensor, "batch position"] | None = None,
) -> Halting:
    """When the positions of a run would have stopped by a rule. The run itself went on.

    Arguments:
        rule: a name (`names()`, or "model"), or a Rule.
        threshold: of the rule's quantity, in its own unit; None: as published.
        level: whether positions stop by themselves, or whole examples.
        answer_positions: the positions whose mean decides at level "example"; None means all that
            count (`run.mask`).

    Raises:
        LoopscopeError: an unknown rule or level, or a run of no iterations.
    """
    rule = get_rule(rule, run.model if rule == MODEL else None).with_threshold(threshold)
    score = rule.scores(run)
    if answer_positions is None and run.mask.shape == score.shape[1:]:
        answer_positions = run.mask
    score = scores_at_level(score, level, answer_positions)
    iteration, halted = first_stop(rule.stops(score))
    weights = (torch.arange(run.iterations)[:, None, None] == iteration).float()
    one = torch.ones_like(iteration, dtype=torch.float)
    return Halting(weights, iteration, halted, one, iteration + 2 * one, f"rule {rule.name}")
