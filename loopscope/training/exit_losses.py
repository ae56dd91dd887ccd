"""Supervision of models that say after every iteration how likely they are to stop there."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..halting.halting_record import exit_weights
from .supervision import Exercise, Final, Outcome, masked_mean
from .validation import between, counted


@dataclass(frozen=True)
class Exits:
    """Every iteration's loss, weighed by the probability of stopping there, and a price for a
    distribution far from a prior.

    loss = sum_t p_t L_t + weight * KL(p || prior), position by position, with p_t = lambda_t
    prod_(j<t) (1 - lambda_j), of which the last iteration takes what is left.
    `model.exit_probability(state)` gives lambda.

    - prior None, uniform: KL is log T - H(p), the entropy bonus of Ouro's first stage (Zhu et al.
      2025, arXiv 2510.25741).
    - prior lambda_p: the geometric distribution with that chance of stopping in each iteration, cut
      off at the last and normalised; PonderNet (Banino, Balaguer & Blundell 2021, arXiv
      2107.05407). The direction is KL(p || prior).
    """

    weight: float
    """beta"""
    prior: float | None = None

    def __post_init__(self) -> None:
        between("Exits.weight", self.weight, 0, 100)
        if self.prior is not None:
            between("Exits.prior", self.prior, 0, 1)

    def __call__(self, exercise: Exercise) -> Outcome:
        context, logits, state, losses, p = _every(exercise)
        expected = masked_mean((p * losses).sum(0), exercise.mask)
        price = masked_mean(divergence(p, self.prior), exercise.mask)
        return Outcome(expected + self.weight * price, logits, state, context)


@dataclass(frozen=True)
class Gate:
    """Ouro's second stage: the gate alone learns whether another iteration would have helped (arXiv
    2510.25741).

    The gate's lambda_t is fitted, by binary cross-entropy, to 1 - sigmoid(slope * (I_t -
    threshold)) with I_t = max(0, L_(t-1) - L_t), t = 2..T: go on where the loss has just fallen by
    more than the threshold (nats), else stop. States come without gradient, so that nothing but the
    gate is moved. The values are the paper's.
    """

    slope: float = 50.0
    threshold: float = 0.005

    def __post_init__(self) -> None:
        between("Gate.slope", self.slope, 0, 1e6)
        between("Gate.threshold", self.threshold, 0, 100)

    def __call__(self, exercise: Exercise) -> Outcome:
        model = exercise.model
        with torch.no_grad():
            context, states = exercise.unrolled()
            kept = [state for k, state in states if k]
            answers = [model.decode(state, context) for state in kept]
            losses = torch.stack([model_losses(exercise, logits) for logits in answers])
            improved = (losses[:-1] - losses[1:]).clamp(min=0)
            helped = torch.sigmoid(self.slope * (improved - self.threshold))
        stop = torch.stack([model.exit_probability(state) for state in kept[1:]])
        loss = F.binary_cross_entropy(stop.clamp(1e-6, 1 - 1e-6), 1 - helped, reduction="none").sum(0)
        return Outcome(masked_mean(loss, exercise.mask) / len(kept), answers[-1], kept[-1], context)


@dataclass(frozen=True)
class Stages:
    """One supervision until optimiser step `at`, another from there on; of stages there may be
    stages."""

    first: "Exits | Final | Gate | Stages"
    second: "Exits | Final | Gate | Stages"
    at: int

    def __post_init__(self) -> None:
        counted("Stages.at", self.at)

    def __call__(self, exercise: Exercise) -> Outcome:
        return (self.first if exercise.step < self.at else self.second)(exercise)


def divergence(
    p: Float[Tensor, "iteration batch position"], prior: float | None
) -> Float[Tensor, "batch position"]:
    """KL(p || prior) in nats: from the uniform distribution (None), or from the geometric one, cut
    off and normalised."""
    n = len(p)
    if prior is None:
        log_prior = p.new_full((n,), -math.log(n))
    else:
        k = torch.arange(n, device=p.device, dtype=p.dtype)
        weights = prior * (1 - prior) ** k
        log_prior = (weights / weights.sum()).clamp(min=1e-30).log()
    return (p * (p.clamp(min=1e-30).log() - log_prior[:, None, None])).sum(0)


def model_losses(exercise: Exercise, logits: Tensor) -> Float[Tensor, "batch position"]:
    """The task's loss, 0 where nothing is asked."""
    return exercise.task.losses(logits, exercise.targets).masked_fill(~exercise.mask, 0)


def _every(exercise: Exercise) -> tuple[Any, Tensor, Any, Tensor, Tensor]:
    """(context, last logits, last state, losses, exit weights) of all iterations."""
    context, states = exercise.unrolled()
    losses, chances, logits, state = [], [], None, None
    for k, state in states:
        if k:
            logits = exercise.model.decode(state, context)
            losses.append(model_losses(exercise, logits))
            chances.append(exercise.model.exit_probability(state))
    assert logits is not None
    return context, logits, state, torch.stack(losses), exit_weights(torch.stack(chances))
