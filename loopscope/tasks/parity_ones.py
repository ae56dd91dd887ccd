"""Parity of strings with a varying number of ones: one answer, at the end."""

from dataclasses import dataclass
from math import comb
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from .batch import Batch
from .fact import Fact
from .task import Task, checked_size

_ASK = 2


@dataclass(frozen=True)
class ParityOnes(Task):
    """Whether the number of ones is odd, answered once at the end, so that causal models can solve
    it too.

    This is PonderNet's task (Banino et al. 2021, arXiv 2107.05407): the number of ones is drawn
    uniformly from 1..length, then their positions. PonderNet's entries are 0, 1 and -1, with -1
    counted as a one; here they are the tokens 0 and 1. Its test of extrapolation is training on
    `ParityOnes(length=96, most=48)` and testing on `batch(..., ones=60)`.

    There are few strings with very few or very many ones, and each is in one split only.

        tokens   0 1 1 0 1 ?
        targets  . . . . . 1
    """

    length: int = 16
    """Bits in a string; tokens have one position more, for "?"."""
    most: int | None = None
    """If not None, the number of ones is drawn from 1..most."""
    ones: int | None = None
    """If not None, the number of ones in every string, in place of `most`."""

    name = "parity-ones"
    symbols = ("0", "1", "?")
    difficulty_option = "length"
    difficulty_unit = "ones in the string"

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_size(self.name, "length", self.length)
        for option, value in (("most", self.most), ("ones", self.ones)):
            if value is not None:
                checked_size(self.name, option, value)
                if value > self.length:
                    raise LoopscopeError(
                        f"{self.name}'s {option} must be at most its length, {self.length}, but is {value}."
                    )

    def solve(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        tokens = self.check_tokens(tokens)
        parity = (tokens == 1).sum(1, keepdim=True) % 2
        return torch.cat([tokens[:, :-1], parity], dim=1)

    def mask(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
        return self.check_tokens(tokens) == _ASK

    def check_tokens(self, tokens: Any) -> Int[Tensor, "batch position"]:
        tokens = super().check_tokens(tokens)
        if not bool(((tokens == _ASK).sum(1) == 1).all() and (tokens[:, -1] == _ASK).all()):
            raise LoopscopeError(
                f"{self.name} needs strings of bits that end with the question '?' (token {_ASK}), but got "
                f"{tokens[:1].tolist()} first. Put it behind them: torch.nn.functional.pad(bits, (0, 1), "
                "value=2)."
            )
        return tokens

    def draw(self, size: int, generator: torch.Generator, **options: Any) -> Int[Tensor, "batch position"]:
        length, ones = options["length"], options["ones"]
        if ones is None:
            ones = torch.randint(1, (options["most"] or length) + 1, (size, 1), generator=generator)
        places = torch.rand((size, length), generator=generator).argsort(dim=1, stable=True)
        return torch.nn.functional.pad((places < ones).long(), (0, 1), value=_ASK)

    def example_count(self, **options: Any) -> int:
        length, ones, most = options["length"], options["ones"], options["most"] or options["length"]
        return comb(length, ones) if ones else sum(comb(length, n) for n in range(1, most + 1))

    def make_batch(self, tokens: Int[Tensor, "batch position"]) -> Batch:
        return Batch(tokens, self.solve(tokens), self.mask(tokens), (tokens == 1).sum(1).float())

    def task_facts(self, batch: Batch, /) -> dict[str, Fact]:
        bits = batch.tokens == 1
        about = "the parity of the ones up to this bit"
        return {"parity so far": Fact(bits.cumsum(1) % 2, ~batch.mask, about, is_intermediate=True)}
