"""Modular addition with a fraction of all pairs for training: the task of the grokking studies."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from .batch import Batch
from .task import Task, checked_size
from .train_test_split import hashed

_HASH_BINS = 1000  # the training fraction is exact to a thousandth


@dataclass(frozen=True)
class ModularAddition(Task):
    """a + b modulo `modulus`, answered at "=" (Power et al. 2022, arXiv 2201.02177; Nanda et al.
    2023, arXiv 2301.05217).

    There are modulus x modulus examples; a hash of (a, b) chooses those for training. All of a
    split can be listed, `full_batch(split)`, and a recipe may train on all of them in every step.

        tokens   3 5 =
        targets  . . 1     (modulo 7)
    """

    modulus: int = 59
    share: float = 0.5
    """Fraction of the pairs that are for training, 0..1."""

    name = "modular-addition"
    difficulty_option = "modulus"
    difficulty_unit = "larger summand"
    fixed_options = ("modulus", "share")
    separator = " "

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_size(self.name, "modulus", self.modulus, least=6)
        if not 0 < self.share < 1:
            raise LoopscopeError(
                f"{self.name}'s share must lie between 0 and 1, so that there is something to train and to "
                f"test on, but is {self.share!r}."
            )

    @property
    def symbols(self) -> tuple[str, ...]:
        """Numbers, then the equals sign."""
        return (*map(str, range(self.modulus)), "=")

    @property
    def difficulty_limit(self) -> int:
        return self.modulus

    def is_test(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, " batch"]:
        return hashed(self.canonical_form(tokens)) % _HASH_BINS >= round(self.share * _HASH_BINS)

    def solve(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        tokens = self.check_tokens(tokens)
        return torch.cat([tokens[:, :2], tokens[:, :2].sum(1, keepdim=True) % self.modulus], dim=1)

    def mask(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
        return self.check_tokens(tokens) == self.modulus

    def check_tokens(self, tokens: Any) -> Int[Tensor, "batch position"]:
        tokens = super().check_tokens(tokens)
        fits = tokens.shape[1] == 3 and bool(
            (tokens[:, :2] < self.modulus).all() and (tokens[:, 2] == self.modulus).all()
        )
        if not fits:
            raise LoopscopeError(
                f"{self.name} needs two numbers below {self.modulus} and the sign '=' (token "
                f"{self.modulus}), but got {tokens[:1].tolist()} first. Use the tokens of this task's own "
                "batches."
            )
        return tokens

    def every_example(self) -> Int[Tensor, "example position"]:
        numbers = torch.arange(self.modulus)
        pairs = torch.cartesian_prod(numbers, numbers)
        return torch.cat([pairs, torch.full((len(pairs), 1), self.modulus)], dim=1)

    def draw(self, size: int, generator: torch.Generator, **options: Any) -> Int[Tensor, "batch position"]:
        pairs = torch.randint(0, self.modulus, (size, 2), generator=generator)
        return torch.cat([pairs, torch.full((size, 1), self.modulus)], dim=1)

    def example_count(self, **options: Any) -> int:
        return self.modulus**2

    def make_batch(self, tokens: Int[Tensor, "batch position"]) -> Batch:
        return Batch(tokens, self.solve(tokens), self.mask(tokens), tokens[:, :2].amax(1).float())
