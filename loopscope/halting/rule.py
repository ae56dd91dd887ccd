"""Rule: a quantity that is computed after every iteration, and the threshold at which a position
stops.

    score = rule.scores(run)    # (iteration, batch, position); entry t belongs to states[t+1]
    stops = rule.stops(score)   # True where the position may stop

Every rule is reduced to a score of which lower values mean that the loop has settled. A rule reads
one iteration after the other, so that the same code serves a recorded run and a loop that it really
stops (`loopscope.halting.answer_with_exit`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..common.errors import LoopscopeError
from .observation import Observation, as_recorded, successive_observations

if TYPE_CHECKING:
    from ..runs.run import Run

Quantity = Callable[[Observation, Observation, Tensor | None], tuple[Tensor, Tensor | None]]
"""(previous, current, memory) -> (quantity (batch, position), memory for the next iteration)"""


@dataclass(frozen=True)
class Rule:
    """When to stop: a quantity read after every iteration, and its threshold."""

    name: str
    """As `exit_rules.RULES` lists it; "model" for the model's own halting."""
    condition: str
    """The quantity in words."""
    source: str
    """Author, year and arXiv id."""
    threshold: float
    """Of the quantity, in its own unit: as published, or as the model has it."""
    quantity: Quantity
    stops_above: bool = False
    """Whether the loop stops where the quantity is large, rather than where it is small."""
    reads_answers: bool = True
    """Whether it reads answers, which are then decoded after every iteration."""
    probability: Callable[["Run"], Tensor] | None = None
    """run -> a gate's probability that the answer may stand, 0..1: (iteration, batch, position), or
    of whole examples (iteration, batch) with NaN where the gate gives none. None for a rule without
    one."""
    strict: bool = False
    """Whether the score must lie below the threshold rather than at or below it."""

    def with_threshold(self, threshold: float | None) -> "Rule":
        """The same rule with another threshold; None leaves it."""
        return self if threshold is None else replace(self, threshold=float(threshold))

    @property
    def score_threshold(self) -> float:
        """The threshold on the scale of `score`."""
        return -self.threshold if self.stops_above else self.threshold

    def stops(self, score: Float[Tensor, "..."]) -> Bool[Tensor, "..."]:
        """Where the score lets the loop stop."""
        return score < self.score_threshold if self.strict else score <= self.score_threshold

    def score(
        self, previous: Observation, current: Observation, memory: Tensor | None
    ) -> tuple[Float[Tensor, "batch position"], Tensor | None]:
        """The score after one iteration, lower where the loop has settled more, and the rule's
        memory for the next iteration."""
        value, memory = self.quantity(previous, current, memory)
        return (-value if self.stops_above else value).double(), memory

    def scores(self, run: "Run") -> Float[Tensor, "iteration batch position"]:
        """The score after each iteration of a run: entry t belongs to states[t+1].

        Raises:
            LoopscopeError: a run of no iterations.
        """
        if run.iterations < 1:
            raise LoopscopeError(
                f"a rule needs a run of one iteration or more, but this one has {run.iterations}. Record "
                "with iterations=1 or more."
            )
        return scores([self], run)[self.name]


def scores(rules: Iterable[Rule], run: "Run") -> dict[str, Float[Tensor, "iteration batch position"]]:
    """The scores of several rules by name; each answer is decoded once."""
    rules = list(rules)
    result: dict[str, list[Tensor]] = {rule.name: [] for rule in rules}
    memory: dict[str, Tensor | None] = {rule.name: None for rule in rules}
    with torch.no_grad():
        for previous, current in successive_observations(run, any(rule.reads_answers for rule in rules)):
            for rule in rules:
                with as_recorded(run):  # a gate is a part of the model
                    score, memory[rule.name] = rule.score(previous, current, memory[rule.name])
                result[rule.name].append(score.expand(current.hidden.shape[:2]).cpu())
    return {name: torch.stack(values) for name, values in result.items()}
