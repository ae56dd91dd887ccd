"""Parity of strings with a varying number of ones: one answer, at the end."""

from dataclasses import dataclass
from math import comb
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from .fact import Fact
from .task import Batch, Task, checked_size

_ASK = 2


@dataclass(frozen=True)
class ParityOnes(Task):
    """Whether the ones are odd in number, asked once at the end, so that causal models can answer
    too.

    This is PonderNet's task (Banino et al. 2021, arXiv 2107.05407): the number of ones is drawn
    uniformly from 1..length, then their places. PonderNet's entries are 0, 1 and -1, with -1
    counted as a one; here they are tokens, 0 and 1. Its extrapolation is `ParityOnes(length=96,
    most=48)` to train on, and `batch(..., ones=60)` to test on.

    There are few strings of very few or very many ones, and each is on one side of the line between
    training and test.

        tokens   0 1 1 0 1 ?
        targets  . . . . . 1
    """

    length: int = 16
    """Bits in a string; tokens have one position more, for the question."""
    most: int | None = None
    """If given, the number of ones is drawn from 1..most."""
    ones: int | None = None
    """If given, every string has so many ones, whatever `most` is."""

    name = "parity-ones"
    symbols = ("0", "1", "?")
    dial = "length"
    difficulty = "ones in the string"

    def __post_init__(self) -> None:
        checked_size(self.name, "length", self.length)
        for option, value in (("most", self.most), ("ones", self.ones)):
            if value is not None:
                checked_size(self.name, option, value)
                if value > self.length:
                    raise LoopscopeError(
                        f"{self.name}'s {option} must be at most its length, {self.length}, but is {value}."
                    )

    def solve(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        tokens = self._checked(tokens)
        parity = (tokens == 1).sum(1, keepdim=True) % 2
        return torch.cat([tokens[:, :-1], parity], dim=1)

    def mask(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
        return self._checked(tokens) == _ASK

    def _checked(self, tokens: Any) -> Int[Tensor, "batch position"]:
        tokens = super()._checked(tokens)
        if not bool(((tokens == _ASK).sum(1) == 1).all() and (tokens[:, -1] == _ASK).all()):
            raise LoopscopeError(
                f"{self.name} needs strings of bits that end with the question '?' (token {_ASK}), but got "
                f"{tokens[:1].tolist()} first. Put it behind them: torch.nn.functional.pad(bits, (0, 1), "
                "value=2)."
            )
        return tokens

    def _draw(self, size: int, generator: torch.Generator, **chosen: Any) -> Int[Tensor, "batch position"]:
        length, ones = chosen["length"], chosen["ones"]
        if ones is None:
            ones = torch.randint(1, (chosen["most"] or length) + 1, (size, 1), generator=generator)
        places = torch.rand((size, length), generator=generator).argsort(dim=1, stable=True)
        return torch.nn.functional.pad((places < ones).long(), (0, 1), value=_ASK)

    def _space(self, **chosen: Any) -> int:
        length, ones, most = chosen["length"], chosen["ones"], chosen["most"] or chosen["length"]
        return comb(length, ones) if ones else sum(comb(length, n) for n in range(1, most + 1))

    def _labelled(self, tokens: Int[Tensor, "batch position"]) -> Batch:
        return Batch(tokens, self.solve(tokens), self.mask(tokens), (tokens == 1).sum(1).float())

    def _facts(self, batch: Batch, /) -> dict[str, Fact]:
        bits = batch.tokens == 1
        about = "the parity of the ones up to this bit"
        return {"parity so far": Fact(bits.cumsum(1) % 2, ~batch.mask, about, on_the_way=True)}
