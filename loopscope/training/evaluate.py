"""accuracy: the task's score of a model after every iteration."""

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
"""Up to this many levels of difficulty are scored separately."""


@dataclass(frozen=True)
class Accuracy:
    """The task's score on fresh examples (for tokens the fraction of correct answers), after
    k = 0..n iterations.

    If a model halts before the requested number of iterations, n is smaller.
    """

    positions: Float[Tensor, " iteration"]
    """Mean over all answered positions."""
    sequences: Float[Tensor, " iteration"]
    """Fraction of the sequences in which every answer is correct."""
    by_position: Float[Tensor, "iteration position"]
    """Mean at each position; NaN where none is answered."""
    by_difficulty: dict[float, Float[Tensor, " iteration"]]
    """Mean for each level of difficulty, in the task's unit; empty if there are more than
    MOST_LEVELS."""
    change: Float[Tensor, " iteration"]
    """Mean difference of the answers from those one iteration before, as the task defines it: for
    tokens the fraction that changed (0 for k = 0)."""
    relative_step: Float[Tensor, " iteration"]
    """Relative step of the state, ‖h_k - h_(k-1)‖ / ‖h_k‖, on average over examples, at the
    position where that is largest; NaN for k = 0."""
    answers: Shaped[Tensor, "iteration batch position"]
    """The answers themselves."""
    correctness: Float[Tensor, "iteration batch position"]
    """How correct each answer is (`Task.correctness`)."""
    mask: Bool[Tensor, "batch position"]
    """The answered positions."""

    @property
    def iterations(self) -> int:
        """The number of iterations run."""
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
    """Run a model on a batch of its task, and score its answers after every iteration.

    >>> accuracy(model, iterations=32, length=32).positions[-1]

    Arguments:
        task: default: the model's own.
        iterations: default: the model's own depth.
        size: number of examples.
        difficulty: as in `task.batch`, such as length=32.

    Raises:
        LoopscopeError: the model has no task and none is passed.
    """
    task = task or model.task
    if task is None:
        raise LoopscopeError(
            "A model without a task of its own needs one: accuracy(model, loopscope.tasks.build(...))."
        )
    device = next(model.parameters()).device
    batch = task.batch(size, seed, split, **difficulty).to(device)
    was_training, answers, scores, steps, before = model.training, [], [], [], None
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # for models that draw: a random start, noise
            context = model.encode(batch.tokens)
            n = checked_iterations(model.iterations if iterations is None else iterations)
            for _, state in unroll(model, model.initial(context), context, n):
                logits = model.decode(state, context)
                answers.append(task.answer(logits))
                scores.append(task.correctness(logits, batch.targets))
                h = primary(state).float()
                steps.append(float("nan") if before is None else _relative_step(h, before))
                before = h
    finally:
        model.train(was_training)
    answer, score = torch.stack(answers), torch.stack(scores)
    mask, complete = batch.mask, (score >= 1) | ~batch.mask
    return Accuracy(
        positions=score[:, mask].mean(1).cpu(),
        sequences=complete.all(-1).float().mean(1).cpu(),
        by_position=((score * mask).sum(1) / mask.sum(0)).cpu(),
        by_difficulty=_by_level(score, mask, batch.difficulty),
        change=_change(task, answer, mask).cpu(),
        relative_step=torch.tensor(steps),
        answers=answer.cpu(),
        correctness=score.cpu(),
        mask=mask.cpu(),
    )


def _change(task: Task, answer: Tensor, mask: Tensor) -> Tensor:
    distance = task.answer_distance(answer[1:], answer[:-1])[:, mask].mean(1)
    return torch.cat([distance.new_zeros(1), distance])


def _by_level(score: Tensor, mask: Tensor, difficulty: Tensor) -> dict[float, Tensor]:
    if len(difficulty.unique()) > MOST_LEVELS:
        return {}
    return {
        float(level): score[:, mask & (difficulty == level)[:, None]].mean(1).cpu()
        for level in difficulty.unique()
    }


def _relative_step(h: Tensor, before: Tensor) -> float:
    return ((h - before).norm(dim=-1) / h.norm(dim=-1)).mean(0).max().item()
