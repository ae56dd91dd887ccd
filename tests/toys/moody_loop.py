"""A small loop of ours whose numbers depend on everything that they may depend on: its modes,
autocast, parameters and buffers, and on a random draw if it is asked for."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from loopscope.nn import LoopedModule


@dataclass(frozen=True)
class Config:
    width: int = 8
    vocabulary: int = 7
    iterations: int = 4
    dropout: float = 0.0
    counts: bool = False


class Coda(nn.Module):
    """Twice as large in training mode."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x if self.training else x


class MoodyLoop(LoopedModule):
    """h -> tanh(W h + e) * gain, read out by a linear map after a coda."""

    gain: Tensor
    table: Tensor
    calls: Tensor

    def __init__(self, config: Config = Config(), seed: int = 0) -> None:
        super().__init__(config.iterations, config.vocabulary)
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed = nn.Embedding(config.vocabulary, config.width)
            self.core = nn.Linear(config.width, config.width)
            self.coda = Coda()
            self.drop = nn.Dropout(config.dropout)
            self.unembed = nn.Linear(config.width, config.vocabulary)
        self.register_buffer("gain", torch.ones(config.width))
        self.register_buffer("table", torch.zeros(1), persistent=False)
        self.register_buffer("calls", torch.zeros(()))
        self.setup()

    def encode(self, tokens: Tensor) -> Tensor:
        if self.config.counts:
            self.calls.add_(1)
        return self.embed(tokens)

    def initial(self, context: Tensor) -> Tensor:
        return context.new_zeros(context.shape)

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        h = torch.tanh(self.core(state) + self.coda(context)) * self.gain + self.table
        return self.drop(h).to(context.dtype)

    def decode(self, state: Tensor, context: Tensor) -> Tensor:
        return self.unembed(self.drop(self.coda(state))) + self.calls

    def logits_of(self, h: Tensor, context: Tensor) -> Tensor:
        return self.decode(h, context)


def tokens(rows: int = 6, seed: int = 0) -> Tensor:
    """(batch, 3)"""
    return torch.randint(0, 7, (rows, 3), generator=torch.Generator().manual_seed(seed))
