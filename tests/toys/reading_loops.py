"""Loops that read an input until an iteration of its own, and what depth_use says of them."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from loopscope.nn import LoopedModule


class Reads(LoopedModule):
    """Tokens (fact, when, query). In iteration `when` the query's state takes the fact's; that is
    its answer."""

    def __init__(self) -> None:
        super().__init__(8, 8)
        self.setup()

    def encode(self, tokens: Tensor) -> Tensor:
        return tokens

    def initial(self, context: Tensor) -> Tensor:
        return one_hot(context, 8).float()

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        new = state.clone()
        now = state[:, 1].argmax(-1) == t
        new[:, 2] = torch.where(now[:, None], state[:, 0], state[:, 2])
        return new

    def decode(self, state: Tensor, context: Tensor) -> Tensor:
        return state


class Passes(Reads):
    """A chain of places: each takes in every iteration what the one before it had, the first reads
    its token anew."""

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        return torch.cat([one_hot(context[:, :1], 8).float(), state[:, :-1]], 1)


def reads(size: int = 60):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 8, (size, 3), generator=generator)
    tokens[:, 2] = 0
    return tokens


def depth_of(result, name):
    return next(depth for depth in result.depths if depth.name == name)
