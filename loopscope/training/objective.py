"""The loss of one optimiser step, and the line about the step in the log."""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from ..common.rng import mixed
from ..core.state_tree import State, detach, from_tensors, tensors
from ..tasks import Task
from .recipe import Recipe
from .supervision import StepInputs, masked_mean

if TYPE_CHECKING:  # TransformerLens comes with the first model, not with the recipes
    from ..nn import LoopedModule

_BATCH, _DEPTH, _REST = 0, 1, 2  # streams of random numbers in a step


class LogEntry(NamedTuple):
    """The line about one optimiser step in the log."""

    step: int
    """Number of steps done, this one included."""
    loss: float
    """Nats per answered position, or in the task's own unit; with the supervision's terms, without
    the penalty."""
    accuracy: float
    """The task's score, such as the fraction of correct answers, on the step's own examples."""
    length: int
    """The task's dial, such as the number of bits or digits."""
    iterations: int
    penalty: float
    """The architecture's own penalty, before its weight."""
    lr: float
    gradient_norm: float
    """Before clipping."""


class Objective(nn.Module):
    """The loss of one step as the forward pass of a module, where accelerate handles precision and
    several devices."""

    def __init__(self, model: "LoopedModule", task: Task, recipe: Recipe) -> None:
        super().__init__()
        self.model, self.task, self.recipe = model, task, recipe
        self.carry: tuple[Tensor, ...] | None = None
        """The tensors of the last segment's final state, detached; None before the first segment
        of new examples."""

    def forward(self, step: int, share: slice) -> tuple[Tensor, LogEntry]:
        """The loss with its penalty, and the log entry, still without rate and norm.

        Arguments:
            share: which of the step's examples this process takes.
        """
        recipe = self.recipe
        segment = step % recipe.segments
        inputs = self._inputs(step, segment, share)
        outputs = recipe.supervision(inputs)
        self.carry = tuple(tensors(detach(outputs.state))) if segment + 1 < recipe.segments else None
        penalty, weight = outputs.loss.new_zeros(()), 0.0
        if recipe.penalty is not None:
            penalty, weight = self.model.penalty(outputs.state, outputs.context), recipe.penalty.at(step)
        loss = outputs.loss + weight * penalty if weight else outputs.loss
        score = masked_mean(self.task.correctness(outputs.logits, inputs.targets), inputs.mask)
        entry = LogEntry(
            step + 1,
            loss=outputs.loss.item(),
            accuracy=score.item(),
            length=self._length(step - segment),
            iterations=inputs.iterations,
            penalty=penalty.item(),
            lr=0.0,
            gradient_norm=0.0,
        )
        return loss, entry

    def _inputs(self, step: int, segment: int, share: slice) -> StepInputs:
        """The step's examples; all its random numbers follow from the recipe's seed and the
        step."""
        recipe, task = self.recipe, self.task
        first = step - segment
        length = self._length(first)
        if recipe.batch is None:
            batch = task.full_batch("train")
        else:
            batch_seed = mixed(mixed(recipe.seed, first), _BATCH)
            batch = task.batch(recipe.batch, batch_seed, "train", **{task.difficulty_option: length})
        seed = mixed(recipe.seed, step)
        device = next(self.model.parameters()).device
        tokens, targets, mask = (x[share].to(device) for x in (batch.tokens, batch.targets, batch.mask))
        generator = torch.Generator().manual_seed(mixed(seed, _DEPTH))
        torch.manual_seed(mixed(seed, _REST))  # for architectures that draw: a random start, noise
        return StepInputs(
            self.model,
            task,
            tokens,
            targets,
            mask,
            iterations=recipe.depth.draw(length, step, generator),
            gradient=recipe.gradient,
            generator=generator,
            step=step,
            segment=segment,
            carry=self._carried_state(tokens) if segment and self.carry is not None else None,
        )

    def _length(self, step: int) -> int:
        """The length of the examples drawn in this step."""
        full = self.task.options[self.task.difficulty_option]
        return full if self.recipe.curriculum is None else self.recipe.curriculum.length(step, full)

    def _carried_state(self, tokens: Tensor) -> State:
        """The carry in the form of the model's states."""
        assert self.carry is not None
        with torch.no_grad():
            like = self.model.initial(self.model.encode(tokens))
        return from_tensors(like, [part.to(tokens.device) for part in self.carry])
