"""What a training step is asked for: from which states the loss is read, and how it is weighed."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from ..core.looped_model import Context
from ..core.state_tree import State, primary
from ..tasks import Task
from .truncated_backprop import Gradient, without_gradient
from .validation import between, counted

if TYPE_CHECKING:  # TransformerLens comes with the first model, not with the recipes
    from ..nn import LoopedModule


class Exercise(NamedTuple):
    """One optimiser step's examples, and how the model is to be run on them."""

    model: "LoopedModule"
    task: Task
    tokens: Shaped[Tensor, "batch position ..."]
    targets: Shaped[Tensor, "batch position"]
    mask: Bool[Tensor, "batch position"]
    iterations: int
    gradient: Gradient
    generator: torch.Generator
    """For what a supervision draws."""
    step: int = 0
    """The optimiser step, 0-based."""
    segment: int = 0
    """Which of the steps on the same examples this is, 0-based."""
    carry: Any = None
    """The state that the segment before ended with, detached; None in the first."""

    def unrolled(self) -> tuple[Any, Iterator[tuple[int, Any]]]:
        """The context, and (k, states[k]) for the states that have a gradient and the one before
        them."""
        context = self.model.encode(self.tokens)
        state = self.model.initial(context)
        return context, self.gradient.unrolled(self.model, state, context, self.iterations)

    def loss(self, logits: Tensor) -> Float[Tensor, ""]:
        """Mean over the answered positions."""
        return masked_mean(self.task.losses(logits, self.targets), self.mask)


class Outcome(NamedTuple):
    """One training step, before its backward pass."""

    loss: Float[Tensor, ""]
    """As the task counts it (nats per answered position), with what the supervision adds."""
    logits: Float[Tensor, "batch position vocab"]
    """Of the last iteration."""
    state: State
    """The last state, for the architecture's penalty and for the next segment."""
    context: Context


@dataclass(frozen=True)
class Final:
    """The answer after the last iteration."""

    def __call__(self, exercise: Exercise) -> Outcome:
        context, states = exercise.unrolled()
        state = deque(states, maxlen=1).pop()[1]
        logits = exercise.model.decode(state, context)
        return Outcome(exercise.loss(logits), logits, state, context)


@dataclass(frozen=True)
class Every:
    """The answers after each of the last iterations, all counting alike.

    With `gradient=Last(last)` this is the window of looped in-context learners (Yang et al. 2024,
    arXiv 2311.12424): the iterations before it run without gradient.
    """

    last: int | None = None
    """How many; None for all that have a gradient."""

    def __post_init__(self) -> None:
        if self.last is not None:
            counted("Every.last", self.last, least=1)

    def __call__(self, exercise: Exercise) -> Outcome:
        context, states = exercise.unrolled()
        first = 1 if self.last is None else exercise.iterations - self.last + 1
        losses, logits, state = [], None, None
        for k, state in states:
            if k >= max(1, first) and primary(state).requires_grad:
                logits = exercise.model.decode(state, context)
                losses.append(exercise.loss(logits))
        assert logits is not None
        return Outcome(torch.stack(losses).mean(), logits, state, context)


@dataclass(frozen=True)
class Progressive:
    """Go on from a state that an earlier part of the run left, and be right after a random number
    of iterations more.

    With m the step's iterations, n ~ U{0..m-1} run without gradient, then k ~ U{1..m-n} with; the
    loss is (1 - weight) * loss after m iterations + weight * loss after n + k.

    Deep-thinking nets: Bansal, Schwarzschild et al. 2022, arXiv 2202.05826. A loop that counts its
    iterations loses.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        between("Progressive.weight", self.weight, 0, 1)

    def __call__(self, exercise: Exercise) -> Outcome:
        model, iterations, draw = exercise.model, exercise.iterations, exercise.generator
        start = int(torch.randint(0, iterations, (), generator=draw))
        more = int(torch.randint(1, iterations - start + 1, (), generator=draw))
        outcomes = []
        if self.weight > 0:
            context = model.encode(exercise.tokens)
            state = without_gradient(model, model.initial(context), context, start)
            states = exercise.gradient.unrolled(model, state, context, start + more, start)
            state = deque(states, maxlen=1).pop()[1]
            logits = model.decode(state, context)
            outcomes.append((self.weight, Outcome(exercise.loss(logits), logits, state, context)))
        if self.weight < 1:
            outcomes.append((1 - self.weight, Final()(exercise)))
        loss = torch.stack([weight * outcome.loss for weight, outcome in outcomes]).sum()
        return outcomes[-1][1]._replace(loss=loss)


def masked_mean(values: Float[Tensor, "batch position"], mask: Bool[Tensor, "batch position"]) -> Tensor:
    """Mean over the answered positions."""
    return values[mask].float().mean()
