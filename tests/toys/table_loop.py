"""A loop whose answers are known beforehand: its state after k iterations is a row of a table, and
so are its logits."""

import torch
from torch import Tensor

import loopscope as ls
from loopscope.nn import LoopedModule


class Planted(LoopedModule):
    """Iteration t gives table[t+1], (iteration, batch, position, vocab), whatever is asked; the
    logits are the state."""

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
    """A run whose answer after k iterations is right where `right[k]` (iteration, batch, position)
    says so, else wrong; `turning`: and another wrong one each time."""
    turn = (turning * torch.arange(len(right)))[:, None, None] % (task.vocabulary - 1)
    wrong = (batch.targets + 1 + turn) % task.vocabulary
    said = torch.where(right, batch.targets, wrong)
    model = Planted(sure * torch.nn.functional.one_hot(said, task.vocabulary), task).eval()
    run = ls.record(model, batch.tokens)
    model.iterations = len(right) - 1 if depth is None else depth
    return run
