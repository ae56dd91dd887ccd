"""Copying and reversing strings of letters."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from .batch import Batch
from .task import Task, checked_size

_ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Copy(Task):
    """A random string, then blanks to be filled with the same string, all at once. Each letter is
    length + 1 positions before its blank.

        tokens   c a b b = _ _ _ _
        targets  . . . . . c a b b
    """

    length: int = 10
    """Letters in a string."""
    letters: int = 8
    """Different letters, at most 26."""

    name = "copy"
    difficulty_option = "length"
    difficulty_unit = "letters in the string"
    fixed_options = ("letters",)

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_size(self.name, "length", self.length)
        checked_size(self.name, "letters", self.letters, least=2)
        if self.letters > len(_ALPHABET):
            raise LoopscopeError(f"{self.name}'s letters must be at most 26, but are {self.letters}.")

    @property
    def symbols(self) -> tuple[str, ...]:
        """Letters, the equals sign, and the blank."""
        return (*_ALPHABET[: self.letters], "=", "_")

    def solve(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        tokens = self.check_tokens(tokens)
        length = tokens.shape[1] // 2
        return torch.cat([tokens[:, : length + 1], self._answer(tokens[:, :length])], dim=1)

    def mask(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
        return self.check_tokens(tokens) == self.letters + 1

    def _answer(self, string: Int[Tensor, "batch letter"]) -> Int[Tensor, "batch letter"]:
        return string

    def check_tokens(self, tokens: Any) -> Int[Tensor, "batch position"]:
        tokens = super().check_tokens(tokens)
        length = tokens.shape[1] // 2
        fits = tokens.shape[1] == 2 * length + 1 >= 3
        string, mark, blanks = tokens[:, :length], tokens[:, length], tokens[:, length + 1 :]
        if not fits or not bool(
            (string < self.letters).all() and (mark == self.letters).all() and (blanks > self.letters).all()
        ):
            raise LoopscopeError(
                f"{self.name} needs letters, '=' (token {self.letters}) and as many blanks '_' (token "
                f"{self.letters + 1}), such as ab=__, but got {tokens[:1].tolist()} first. Use the tokens "
                "of this task's own batches."
            )
        return tokens

    def draw(self, size: int, generator: torch.Generator, /, **options: Any) -> Int[Tensor, "batch position"]:
        string = torch.randint(0, self.letters, (size, options["length"]), generator=generator)
        mark = torch.full((size, 1), self.letters)
        return torch.cat([string, mark, torch.full_like(string, self.letters + 1)], dim=1)

    def example_count(self, **options: Any) -> int:
        return self.letters ** options["length"]

    def make_batch(self, tokens: Int[Tensor, "batch position"]) -> Batch:
        difficulty = torch.full((len(tokens),), float(tokens.shape[1] // 2), device=tokens.device)
        return Batch(tokens, self.solve(tokens), self.mask(tokens), difficulty)


@dataclass(frozen=True)
class Reverse(Copy):
    """A random string, then blanks to be filled with the reversed string, all at once. The letters
    are 2, 4, 6, ... positions before their blanks.

        tokens   c a b b = _ _ _ _
        targets  . . . . . b b a c
    """

    name = "reverse"

    def _answer(self, string: Int[Tensor, "batch letter"]) -> Int[Tensor, "batch letter"]:
        return string.flip(1)
