"""What a training step is asked for: from which states the loss is read, and how it is weighed."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from ..driver import Looped, unroll
from .checks import between
from .gradient import Gradient


class Outcome(NamedTuple):
    """One training step, before its backward pass."""

    loss: Float[Tensor, ""]
    """Cross-entropy in nats per answered position."""
    logits: Float[Tensor, "batch position vocab"]
    """Of the last iteration."""
    state: Any
    """The last state, for the architecture's penalty."""


@dataclass(frozen=True)
class Final:
    """The answer after the last iteration."""

    def __call__(
        self,
        model: Looped,
        tokens: Int[Tensor, "batch position"],
        targets: Int[Tensor, "batch position"],
        mask: Bool[Tensor, "batch position"],
        iterations: int,
        gradient: Gradient,
        generator: torch.Generator,
    ) -> Outcome:
        return _answer(model, tokens, targets, mask, gradient.without(iterations), iterations)


@dataclass(frozen=True)
class Progressive:
    """Go on from a state that an earlier part of the run left, and be right after a random number of iterations more.

    With m the step's iterations, n ~ U{0..m-1} run without gradient, then k ~ U{1..m-n} with; the loss is
    (1 - weight) * loss after m iterations + weight * loss after n + k.

    Deep-thinking nets: Bansal, Schwarzschild et al. 2022, arXiv 2202.05826. A loop that counts its iterations loses.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        between("Progressive.weight", self.weight, 0, 1)

    def __call__(
        self,
        model: Looped,
        tokens: Int[Tensor, "batch position"],
        targets: Int[Tensor, "batch position"],
        mask: Bool[Tensor, "batch position"],
        iterations: int,
        gradient: Gradient,
        generator: torch.Generator,
    ) -> Outcome:
        start = int(torch.randint(0, iterations, (), generator=generator))
        more = int(torch.randint(1, iterations - start + 1, (), generator=generator))
        outcomes = []
        if self.weight > 0:
            without = start + gradient.without(more)
            outcomes.append((self.weight, _answer(model, tokens, targets, mask, without, start + more)))
        if self.weight < 1:
            whole = _answer(model, tokens, targets, mask, gradient.without(iterations), iterations)
            outcomes.append((1 - self.weight, whole))
        loss = torch.stack([weight * outcome.loss for weight, outcome in outcomes]).sum()
        return outcomes[-1][1]._replace(loss=loss)


Supervision = Final | Progressive


def truncated(model: Looped, context: Any, iterations: int, without: int) -> Iterator[tuple[int, Any]]:
    """Yield (k, states[k]) for k = without..iterations, the first `without` iterations having run without gradient."""
    state = model.initial(context)
    if without:
        with torch.no_grad():
            state = _last(unroll(model, state, context, without))
    yield from unroll(model, state, context, iterations, start=without)


def cross_entropy(
    logits: Float[Tensor, "batch position vocab"],
    targets: Int[Tensor, "batch position"],
    mask: Bool[Tensor, "batch position"],
) -> Float[Tensor, ""]:
    """Mean over the answered positions, in nats."""
    return F.cross_entropy(logits[mask].float(), targets[mask])


def _answer(
    model: Looped, tokens: Tensor, targets: Tensor, mask: Tensor, without: int, iterations: int
) -> Outcome:
    context = model.encode(tokens)
    state = _last(truncated(model, context, iterations, without))
    logits = model.decode(state, context)
    return Outcome(cross_entropy(logits, targets, mask), logits, state)


def _last(states: Iterator[tuple[int, Any]]) -> Any:
    """The last state; none before it is kept."""
    return deque(states, maxlen=1).pop()[1]
