"""How right a model is, iteration by iteration."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..driver import checked_iterations, primary, unroll
from ..errors import LoopscopeError
from ..tasks import Task
from ..tasks.task import Split

if TYPE_CHECKING:  # TransformerLens comes with the first model, not with the recipes
    from ..nn import LoopedModule


@dataclass(frozen=True)
class Accuracy:
    """Fractions of right answers on fresh examples, after k = 0..n iterations.

    A model that halts may leave the loop before the number of iterations asked for: then n is smaller.
    """

    positions: Float[Tensor, " iteration"]
    """Of all answered positions."""
    sequences: Float[Tensor, " iteration"]
    """Of all sequences, those with every answer right."""
    by_position: Float[Tensor, "iteration position"]
    """At each position; NaN where none is answered."""
    changed: Float[Tensor, " iteration"]
    """Of all answers, those that differ from the ones an iteration before (0 for k = 0)."""
    moved: Float[Tensor, " iteration"]
    """Largest mean relative step of a position's state, ‖h_k - h_(k-1)‖ / ‖h_k‖; NaN for k = 0."""
    answers: Int[Tensor, "iteration batch position"]
    """The answers themselves."""

    @property
    def iterations(self) -> int:
        """How many were run."""
        return len(self.positions) - 1


@torch.no_grad()
def accuracy(
    model: "LoopedModule",
    task: Task | None = None,
    iterations: int | None = None,
    size: int = 512,
    seed: int = 0,
    split: Split = "test",
    **difficulty: Any,
) -> Accuracy:
    """Run a model on a batch of its task and read its answer out after every iteration.

    >>> accuracy(model, iterations=32, length=32).positions[-1]

    Arguments:
        task: the model's own unless given.
        iterations: the model's own unless given.
        difficulty: as in `task.batch`, such as length=32.
    """
    task = task or model.task
    if task is None:
        raise LoopscopeError(
            "A model without a task of its own needs one: accuracy(model, loopscope.tasks.build(...))."
        )
    device = next(model.parameters()).device
    batch = task.batch(size, seed, split, **difficulty).to(device)
    was_training, answers, moved, before = model.training, [], [], None
    model.eval()
    try:
        context = model.encode(batch.tokens)
        n = checked_iterations(model.iterations if iterations is None else iterations)
        for _, state in unroll(model, model.initial(context), context, n):
            answers.append(model.decode(state, context).argmax(-1))
            h = primary(state).float()
            moved.append(float("nan") if before is None else _relative_step(h, before))
            before = h
    finally:
        model.train(was_training)
    said = torch.stack(answers)
    right = (said == batch.targets) & batch.mask
    changed = ((said[1:] != said[:-1]) & batch.mask).float().sum((1, 2)) / batch.mask.sum()
    return Accuracy(
        positions=(right.float().sum((1, 2)) / batch.mask.sum()).cpu(),
        sequences=(right | ~batch.mask).all(-1).float().mean(1).cpu(),
        by_position=(right.float().sum(1) / batch.mask.sum(0)).cpu(),
        changed=torch.cat([changed.new_zeros(1), changed]).cpu(),
        moved=torch.tensor(moved),
        answers=said.cpu(),
    )


def _relative_step(h: Tensor, before: Tensor) -> float:
    return ((h - before).norm(dim=-1) / h.norm(dim=-1)).mean(0).max().item()
