"""Supervision: the states that the loss of a training step is computed from, and their weights."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from ..core.looped_model import Context
from ..core.state_tree import State, primary
from ..tasks import Task
from .truncated_backprop import Gradient, without_gradient
from .validation import check_count, check_range

if TYPE_CHECKING:  # TransformerLens comes with the first model, not with the recipes
    from ..nn import LoopedModule


class StepInputs(NamedTuple):
    """One optimiser step's examples, and how the model is run on them."""

    model: "LoopedModule"
    task: Task
    tokens: Shaped[Tensor, "batch position ..."]
    targets: Shaped[Tensor, "batch position"]
    mask: Bool[Tensor, "batch position"]
    iterations: int
    gradient: Gradient
    generator: torch.Generator
    """For supervisions that draw random numbers."""
    step: int = 0
    """The optimiser step, 0-based."""
    segment: int = 0
    """The index of this step among those on the same examples, 0-based."""
    carry: State | None = None
    """The final state of the previous segment, detached; None in the first."""

    def unrolled(self) -> tuple[Context, Iterator[tuple[int, State]]]:
        """The context, and (k, states[k]) for the states that have a gradient and the one before
        them."""
        context = self.model.encode(self.tokens)
        state = self.model.initial(context)
        return context, self.gradient.unrolled(self.model, state, context, self.iterations)

    def loss(self, logits: Tensor) -> Float[Tensor, ""]:
        """The mean over the answered positions."""
        return masked_mean(self.task.losses(logits, self.targets), self.mask)


class StepOutputs(NamedTuple):
    """One training step, before its backward pass."""

    loss: Float[Tensor, ""]
    """In the task's unit (nats per answered position), with the supervision's own terms."""
    logits: Float[Tensor, "batch position vocab"]
    """Read out after the last iteration."""
    state: State
    """The last state, for the architecture's penalty and for the next segment."""
    context: Context


@dataclass(frozen=True)
class Final:
    """The answer after the last iteration."""

    def __call__(self, inputs: StepInputs) -> StepOutputs:
        """The loss of one step, with what the next needs."""
        context, states = inputs.unrolled()
        state = deque(states, maxlen=1).pop()[1]
        logits = inputs.model.decode(state, context)
        return StepOutputs(inputs.loss(logits), logits, state, context)


@dataclass(frozen=True)
class Every:
    """The answers after each of the last iterations, with equal weights.

    With `gradient=Last(last)` this is the window of looped in-context learners (Yang et al. 2024,
    arXiv 2311.12424): the iterations before it run without gradient.
    """

    last: int | None = None
    """How many iterations; None for all that have a gradient."""

    def __post_init__(self) -> None:
        if self.last is not None:
            check_count("Every.last", self.last, least=1)

    def __call__(self, inputs: StepInputs) -> StepOutputs:
        """The loss of one step, with what the next needs."""
        context, states = inputs.unrolled()
        first = 1 if self.last is None else inputs.iterations - self.last + 1
        losses, logits, state = [], None, None
        for k, state in states:
            if k >= max(1, first) and primary(state).requires_grad:
                logits = inputs.model.decode(state, context)
                losses.append(inputs.loss(logits))
        assert logits is not None
        return StepOutputs(torch.stack(losses).mean(), logits, state, context)


@dataclass(frozen=True)
class Progressive:
    """Start from the state after a random number of iterations, and be correct after a random
    number of further iterations.

    With m the step's iterations, n ~ U{0..m-1} run without gradient, then k ~ U{1..m-n} with; the
    loss is (1 - weight) * loss after m iterations + weight * loss after n + k.

    Deep-thinking nets: Bansal, Schwarzschild et al. 2022, arXiv 2202.05826. It discourages loops
    that count their iterations.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        check_range("Progressive.weight", self.weight, 0, 1)

    def __call__(self, inputs: StepInputs) -> StepOutputs:
        """The loss of one step, with what the next needs."""
        model, iterations, draw = inputs.model, inputs.iterations, inputs.generator
        start = int(torch.randint(0, iterations, (), generator=draw))
        more = int(torch.randint(1, iterations - start + 1, (), generator=draw))
        parts = []
        if self.weight > 0:
            context = model.encode(inputs.tokens)
            state = without_gradient(model, model.initial(context), context, start)
            states = inputs.gradient.unrolled(model, state, context, start + more, start)
            state = deque(states, maxlen=1).pop()[1]
            logits = model.decode(state, context)
            parts.append((self.weight, StepOutputs(inputs.loss(logits), logits, state, context)))
        if self.weight < 1:
            parts.append((1 - self.weight, Final()(inputs)))
        loss = torch.stack([weight * outputs.loss for weight, outputs in parts]).sum()
        return parts[-1][1]._replace(loss=loss)


def masked_mean(values: Float[Tensor, "batch position"], mask: Bool[Tensor, "batch position"]) -> Tensor:
    """The mean over the answered positions."""
    return values[mask].float().mean()
