"""A loop with prescribed answers: its state after k iterations is entry k of a table, and its
logits are the state."""

import torch
from torch import Tensor

import loopscope as ls
from loopscope.nn import LoopedModule


class Planted(LoopedModule):
    """Iteration t returns table[t+1], of a table (iteration, batch, position, vocab), for any
    tokens; the logits are the state."""

    def __init__(self, table: Tensor, task: "ls.tasks.Task | None" = None) -> None:
        super().__init__(len(table) - 1, table.shape[-1])
        self.register_buffer("table", table.float())
        self.task = task
        self.setup()

    def encode(self, tokens: Tensor) -> Tensor:
        return tokens

    def initial(self, context: Tensor) -> Tensor:
        return self.get_buffer("table")[0]

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        table = self.get_buffer("table")
        return table[min(t + 1, len(table) - 1)]

    def decode(self, state: Tensor, context: Tensor) -> Tensor:
        return state


def planted(
    right: Tensor, task, batch, sure: float = 4.0, depth: int | None = None, turning: bool = False
) -> "ls.Run":
    """A run whose answer after k iterations is right where `right` (iteration, batch, position) is
    True, else wrong.

    Arguments:
        sure: the logit of the answer; all others are 0.
        depth: the model's own number of iterations; None: those of `right`.
        turning: whether each iteration gives another wrong answer.
    """
    turn = (turning * torch.arange(len(right)))[:, None, None] % (task.vocabulary - 1)
    wrong = (batch.targets + 1 + turn) % task.vocabulary
    answers = torch.where(right, batch.targets, wrong)
    model = Planted(sure * torch.nn.functional.one_hot(answers, task.vocabulary), task).eval()
    run = ls.record(model, batch.tokens)
    model.iterations = len(right) - 1 if depth is None else depth
    return run
