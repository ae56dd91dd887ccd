"""Running parity of a bit string: at every bit, whether the number of ones so far is odd."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from .batch import Batch
from .task import Task, checked_size

_START = 2


@dataclass(frozen=True)
class PrefixParity(Task):
    """Prefix sums modulo two, the task of the deep-thinking nets (Schwarzschild et al. 2021, arXiv
    2106.04537).

    Each answer is the previous answer XOR its bit, so a loop that attends one position to the left
    solves one more position per iteration: the solved prefix grows like a moving front.

    A string begins with the token "^", which has no answer. Without it a causal model with relative
    positions could not solve the task: in 1111 every position would attend to ones alone, and none
    could tell that it is the first.

        tokens   ^ 0 1 1 0 1
        targets  . 0 1 0 0 1
    """

    length: int = 16
    """Bits in a string; tokens have one position more, for "^"."""

    name = "prefix-parity"
    symbols = ("0", "1", "^")
    difficulty_option = "length"
    difficulty_unit = "ones in the string"

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_size(self.name, "length", self.length)

    def solve(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        tokens = self.check_tokens(tokens)
        bits = tokens == 1
        return torch.where(tokens == _START, tokens, bits.cumsum(1) % 2)

    def mask(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
        return self.check_tokens(tokens) != _START

    def check_tokens(self, tokens: Any) -> Int[Tensor, "batch position"]:
        tokens = super().check_tokens(tokens)
        if not bool(((tokens == _START).sum(1) == 1).all() and (tokens[:, 0] == _START).all()):
            raise LoopscopeError(
                f"{self.name} needs strings that begin with the mark '^' (token {_START}) and go on with "
                f"bits, but got {tokens[:1].tolist()} first. Put the mark in front: "
                "torch.nn.functional.pad(bits, (1, 0), value=2)."
            )
        return tokens

    def draw(self, size: int, generator: torch.Generator, **options: Any) -> Int[Tensor, "batch position"]:
        bits = torch.randint(0, 2, (size, options["length"]), generator=generator)
        return torch.cat([torch.full((size, 1), _START), bits], dim=1)

    def example_count(self, **options: Any) -> int:
        return 2 ** options["length"]

    def make_batch(self, tokens: Int[Tensor, "batch position"]) -> Batch:
        return Batch(tokens, self.solve(tokens), self.mask(tokens), (tokens == 1).sum(1).float())
