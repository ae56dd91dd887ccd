"""A model's own halting as an exit rule, so that its threshold can be changed: adaptive computation
time, exit gates, Q-heads and the tolerance of a solver."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..core.state_tree import State
from .observation import Observation, as_recorded
from .rule import Rule

if TYPE_CHECKING:
    from ..runs.run import Run

NAME = "model"
"""The name of every rule made here."""


def act_rule(source: str = "Graves 2016, arXiv 1603.08983") -> Rule:
    """Adaptive computation time, from a state with `mass`: the halting probability that is left, 0
    once the position has halted.

    A larger threshold stops before the halting unit does. Stopping later has no effect, since the
    output no longer changes then.
    """
    return Rule(
        NAME,
        "the halting probability left",
        source,
        0.0,
        lambda previous, current, memory: (1 - current.state.mass, None),
        reads_answers=False,
        probability=lambda run: run["state.mass"].tensor[1:],
    )


def exit_rule(
    threshold: float, chance: Callable[[State], Tensor], source: str = "Zhu et al. 2025, arXiv 2510.25741"
) -> Rule:
    """An exit gate: the cumulative probability of having stopped, CDF(k) = 1 - prod_(j<=k) (1 -
    lambda_j), reaches the threshold.

    Arguments:
        threshold: of the cumulative probability, 0..1.
        chance: state -> lambda (batch, position), the probability of stopping after the iteration
            that made the state.
    """

    def quantity(previous: Observation, current: Observation, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        survival = 1 - chance(current.state).detach()
        survival = survival if memory is None else memory * survival
        return 1 - survival, survival

    def probability(run: "Run") -> Tensor:
        with as_recorded(run):
            chances = torch.stack([chance(run.state(k)).detach() for k in range(1, run.iterations + 1)])
        return 1 - (1 - chances).cumprod(0)

    return Rule(
        NAME,
        "the cumulative probability of having stopped",
        source,
        threshold,
        quantity,
        stops_above=True,
        reads_answers=False,
        probability=probability,
    )


def q_rule(q_values: Callable[[State], Tensor], cycles: int) -> Rule:
    """A Q-head at the end of every segment of `cycles` iterations: the value of halting less that
    of going on, or the value of halting where there is no other, is above 0 (Wang et al. 2025,
    arXiv 2506.21734).

    The same for all positions of an example. Within a segment nothing stops.

    Arguments:
        q_values: state -> (batch, 1 or 2), the values of halting and of going on.
    """

    def quantity(previous: Observation, current: Observation, memory: Tensor | None) -> tuple[Tensor, None]:
        if current.k % cycles:
            return current.hidden.new_full(current.hidden.shape[:2], float("-inf")), None
        q = q_values(current.state).detach()
        value = q[:, 0] - q[:, 1] if q.shape[1] > 1 else q[:, 0]
        return value[:, None].expand(current.hidden.shape[:2]), None

    def probability(run: "Run") -> Tensor:
        # the logit of halting is trained to predict whether the whole answer is right
        result = torch.full((run.iterations, len(run.states[0])), float("nan"))
        for k in range(cycles, run.iterations + 1, cycles):
            with as_recorded(run):
                q = q_values(run.state(k)).detach()[:, 0]
            result[k - 1] = torch.sigmoid(q.float()).cpu()
        return result

    return Rule(
        NAME,
        "the Q-head's logit of halting less that of going on",
        "Wang et al. 2025, arXiv 2506.21734",
        0.0,
        quantity,
        stops_above=True,
        reads_answers=False,
        probability=probability,
        strict=True,
    )


def solver_rule(tolerance: float) -> Rule:
    """A solver's residual ‖f(h) - h‖ / ‖f(h)‖, from a state with `gap`, lies below its
    tolerance."""
    return Rule(
        NAME,
        "the solver's residual",
        "Bai, Kolter & Koltun 2019, arXiv 1909.01377",
        tolerance,
        lambda previous, current, memory: (current.state.gap, None),
        reads_answers=False,
        strict=True,
    )
