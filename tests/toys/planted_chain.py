"""A loop whose inner steps are set by hand: which result of a modular chain it shows after each
iteration is known.

The state at the last position is the one-hot vector of a running value; before the loop it is the
start. Iteration t multiplies it by the matrix that takes one result of the chain to another: the
product of the operations between them, or of their inverses where the other one comes before it.
So the state alone carries the value, and the input only says what is done to it.

    PlantedChain(task, (1, 2, 3, 4, 5))      each result follows from the one before
    PlantedChain(task, (2, 1, 4, 3, 5))      the same results in another order
    PlantedChain(task, (5, 5, 5, 5, 5))      the answer at once: nothing happens after iteration 1
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from transformer_lens.hook_points import HookPoint

from loopscope.nn import LoopedModule
from loopscope.tasks import ModularChain

IN_ORDER, SWAPPED, AT_ONCE = (1, 2, 3, 4, 5), (2, 1, 4, 3, 5), (5, 5, 5, 5, 5)


class Context(NamedTuple):
    """What an iteration reads."""

    embedded: Tensor
    """(batch, position, vocab): the tokens, one-hot; at the last position the start."""
    moves: Tensor
    """(batch, iteration, from, to): what each iteration does to the value."""


class PlantedChain(LoopedModule):
    """The loop above."""

    def __init__(self, task: ModularChain, order: tuple[int, ...] = IN_ORDER) -> None:
        super().__init__(len(order), task.vocabulary)
        self.task, self.order = task, order
        self.scale = nn.Parameter(torch.tensor(20.0))  # of the logits, and something to be trained
        self.core_in = HookPoint()
        self.setup()

    def encode(self, tokens: Tensor) -> Context:
        modulus = self.task.modulus
        embedded = one_hot(torch.cat([tokens[:, :-1], tokens[:, :1]], dim=1), self.vocabulary)
        operations = one_hot(self._results(tokens), self.vocabulary)[..., :modulus]
        done = [torch.eye(modulus).expand(len(tokens), -1, -1)]
        for operation in operations.float().unbind(1):
            done.append(done[-1] @ operation)
        reached = torch.stack(done, dim=1)[:, [0, *self.order]]  # from the start to each result shown
        return Context(embedded.float(), reached[:, :-1].transpose(-1, -2) @ reached[:, 1:])

    def _results(self, tokens: Tensor) -> Tensor:
        """(batch, operation, value): what each operation makes of each value."""
        value = torch.arange(self.task.modulus)
        rows = []
        for tokens_of_one in tokens[:, 1:-1].tolist():
            names = (self.task.symbols[token] for token in tokens_of_one)
            rows.append(torch.stack([self._applied(name, value) for name in names]))
        return torch.stack(rows)

    def _applied(self, name: str, value: Tensor) -> Tensor:
        if name == ".":
            return value
        number = int(name[1:])
        return (value + number if name[0] == "+" else value * number) % self.task.modulus

    def initial(self, context: Context) -> Tensor:
        return context.embedded

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        state, modulus = self.core_in(state), self.task.modulus
        value = (state[:, -1, None, :modulus] @ context.moves[:, min(t, len(self.order) - 1)])[:, 0]
        last = torch.cat([value, state[:, -1, modulus:]], dim=1)
        return torch.cat([state[:, :-1], last[:, None]], dim=1)

    def decode(self, state: Tensor, context: Context) -> Tensor:
        return self.scale * state
