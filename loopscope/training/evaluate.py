"""How right a model is, iteration by iteration."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.looped_model import checked_iterations, unroll
from ..core.state_tree import primary
from ..tasks import Task
from ..tasks.task import Split

if TYPE_CHECKING:  # TransformerLens comes with the first model, not with the recipes
    from ..nn import LoopedModule

MOST_LEVELS = 40
"""Difficulties that are told apart."""


@dataclass(frozen=True)
class Accuracy:
    """The task's score on fresh examples (for tokens the fraction of right answers), after k = 0..n
    iterations.

    A model that halts may leave the loop before the number of iterations asked for: then n is
    smaller.
    """

    positions: Float[Tensor, " iteration"]
    """Mean over all answered positions."""
    sequences: Float[Tensor, " iteration"]
    """Fraction of all sequences in which every answer is exactly right."""
    by_position: Float[Tensor, "iteration position"]
    """At each position; NaN where none is answered."""
    by_difficulty: dict[float, Float[Tensor, " iteration"]]
    """Of the examples of each difficulty, in the task's own unit; empty where there are too many to
    tell apart."""
    changed: Float[Tensor, " iteration"]
    """Mean of what answers differ by from those an iteration before, as the task counts it: for
    tokens the fraction that changed (0 for k = 0)."""
    moved: Float[Tensor, " iteration"]
    """Largest mean relative step of a position's state, ‖h_k - h_(k-1)‖ / ‖h_k‖; NaN for k = 0."""
    answers: Shaped[Tensor, "iteration batch position"]
    """The answers themselves."""
    mask: Bool[Tensor, "batch position"]
    """Where one was asked for."""

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
    *,
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
    was_training, answers, merits, moved, before = model.training, [], [], [], None
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # for models that draw: a random start, noise
            context = model.encode(batch.tokens)
            n = checked_iterations(model.iterations if iterations is None else iterations)
            for _, state in unroll(model, model.initial(context), context, n):
                logits = model.decode(state, context)
                answers.append(task.answer(logits))
                merits.append(task.correctness(logits, batch.targets))
                h = primary(state).float()
                moved.append(float("nan") if before is None else _relative_step(h, before))
                before = h
    finally:
        model.train(was_training)
    said, merit = torch.stack(answers), torch.stack(merits)
    asked, whole = batch.mask, (merit >= 1) | ~batch.mask
    return Accuracy(
        positions=merit[:, asked].mean(1).cpu(),
        sequences=whole.all(-1).float().mean(1).cpu(),
        by_position=((merit * asked).sum(1) / asked.sum(0)).cpu(),
        by_difficulty=_grouped(merit, asked, batch.difficulty),
        changed=torch.cat(
            [merit.new_zeros(1), task.answer_distance(said[1:], said[:-1])[:, asked].mean(1)]
        ).cpu(),
        moved=torch.tensor(moved),
        answers=said.cpu(),
        mask=asked.cpu(),
    )


def _grouped(merit: Tensor, asked: Tensor, difficulty: Tensor) -> dict[float, Tensor]:
    if len(difficulty.unique()) > MOST_LEVELS:
        return {}
    return {
        float(level): merit[:, asked & (difficulty == level)[:, None]].mean(1).cpu()
        for level in difficulty.unique()
    }


def _relative_step(h: Tensor, before: Tensor) -> float:
    return ((h - before).norm(dim=-1) / h.norm(dim=-1)).mean(0).max().item()
