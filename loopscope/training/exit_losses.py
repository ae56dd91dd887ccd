"""Supervision of models that give a probability of stopping after every iteration."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..halting.halting_record import exit_weights
from .supervision import Every, Final, StepInputs, StepOutputs, masked_mean
from .validation import check_count, check_range


@dataclass(frozen=True)
class Exits:
    """Every iteration's loss, weighted by the probability of stopping there, and the divergence of
    that distribution from a prior.

    loss = sum_t p_t L_t + weight * KL(p || prior), position by position, with p_t = lambda_t
    prod_(j<t) (1 - lambda_j), where the last iteration gets the remaining probability.
    `model.exit_probability(state)` returns lambda.

    - prior None, uniform: KL is log T - H(p), the entropy bonus of Ouro's first stage (Zhu et al.
      2025, arXiv 2510.25741).
    - prior lambda_p: the geometric distribution with that probability of stopping in each
      iteration, truncated at the last and normalised; PonderNet (Banino, Balaguer & Blundell 2021,
      arXiv 2107.05407). The direction is KL(p || prior).
    """

    weight: float
    """The weight of the divergence, beta in both papers."""
    prior: float | None = None
    """None for the uniform prior, or lambda_p of the geometric one."""

    def __post_init__(self) -> None:
        check_range("Exits.weight", self.weight, 0, 100)
        if self.prior is not None:
            check_range("Exits.prior", self.prior, 0, 1)

    def __call__(self, inputs: StepInputs) -> StepOutputs:
        """The loss of one step, with what the next needs."""
        context, logits, state, losses, p = _every(inputs)
        loss = masked_mean((p * losses).sum(0), inputs.mask)
        kl = masked_mean(divergence(p, self.prior), inputs.mask)
        return StepOutputs(loss + self.weight * kl, logits, state, context)


@dataclass(frozen=True)
class Gate:
    """Ouro's second stage: only the gate is trained, to predict whether another iteration helps
    (arXiv 2510.25741).

    The gate's lambda_t is fitted, by binary cross-entropy, to 1 - sigmoid(slope * (I_t -
    threshold)) with I_t = max(0, L_(t-1) - L_t), t = 2..T: continue where the loss has just fallen
    by more than the threshold (nats), else stop. States have no gradient, so that only the gate is
    trained. The defaults are the paper's.
    """

    slope: float = 50.0
    threshold: float = 0.005

    def __post_init__(self) -> None:
        check_range("Gate.slope", self.slope, 0, 1e6)
        check_range("Gate.threshold", self.threshold, 0, 100)

    def __call__(self, inputs: StepInputs) -> StepOutputs:
        """The loss of one step, with what the next needs."""
        model = inputs.model
        with torch.no_grad():
            context, states = inputs.unrolled()
            states_after = [state for k, state in states if k]
            answers = [model.decode(state, context) for state in states_after]
            losses = torch.stack([model_losses(inputs, logits) for logits in answers])
            improved = (losses[:-1] - losses[1:]).clamp(min=0)
            helped = torch.sigmoid(self.slope * (improved - self.threshold))
        stop = torch.stack([model.exit_probability(state) for state in states_after[1:]])
        loss = F.binary_cross_entropy(stop.clamp(1e-6, 1 - 1e-6), 1 - helped, reduction="none").sum(0)
        return StepOutputs(
            masked_mean(loss, inputs.mask) / len(states_after), answers[-1], states_after[-1], context
        )


@dataclass(frozen=True)
class Stages:
    """One supervision until optimiser step `at`, another from there on. Stages can be nested."""

    first: "Exits | Every | Final | Gate | Stages"
    second: "Exits | Every | Final | Gate | Stages"
    at: int

    def __post_init__(self) -> None:
        check_count("Stages.at", self.at)

    def __call__(self, inputs: StepInputs) -> StepOutputs:
        """The loss of one step, with what the next needs."""
        return (self.first if inputs.step < self.at else self.second)(inputs)


def divergence(
    p: Float[Tensor, "iteration batch position"], prior: float | None
) -> Float[Tensor, "batch position"]:
    """KL(p || prior) in nats: from the uniform distribution (None), or from the truncated
    geometric one."""
    n = len(p)
    if prior is None:
        log_prior = p.new_full((n,), -math.log(n))
    else:
        k = torch.arange(n, device=p.device, dtype=p.dtype)
        weights = prior * (1 - prior) ** k
        log_prior = (weights / weights.sum()).clamp(min=1e-30).log()
    return (p * (p.clamp(min=1e-30).log() - log_prior[:, None, None])).sum(0)


def model_losses(inputs: StepInputs, logits: Tensor) -> Float[Tensor, "batch position"]:
    """The task's loss, 0 at positions without an answer."""
    return inputs.task.losses(logits, inputs.targets).masked_fill(~inputs.mask, 0)


def _every(inputs: StepInputs) -> tuple[Any, Tensor, Any, Tensor, Tensor]:
    """(context, last logits, last state, losses, exit weights) of all iterations."""
    context, states = inputs.unrolled()
    losses, exits, logits, state = [], [], None, None
    for k, state in states:
        if k:
            logits = inputs.model.decode(state, context)
            losses.append(model_losses(inputs, logits))
            exits.append(inputs.model.exit_probability(state))
    assert logits is not None
    return context, logits, state, torch.stack(losses), exit_weights(torch.stack(exits))
