"""Chains of operations modulo a number: start with a value and apply one operation after
another."""

from dataclasses import dataclass
from math import gcd
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from .batch import Batch
from .chain import Chain
from .fact import Fact
from .task import Task, checked_size

MOST = 32  # the largest number of operations of an example


@dataclass(frozen=True)
class ModularChainBatch(Batch):
    """Chains of operations with their running values."""

    running: Int[Tensor, "batch operations+1"]
    """The value after 0, 1, 2, ... operations, up to the longest chain of the batch; a shorter one
    keeps its last value."""


@dataclass(frozen=True)
class ModularChain(Task):
    """A value and operations that are applied to it one after another, modulo `modulus`; the answer
    at "=" is the last value.

    The chains of modular operations on which loops are aligned with steps of reasoning (Yu et al.
    2025, arXiv 2502.08482), in a form of our own: an operation is one token, adds a number other
    than 0 or multiplies by one that has an inverse, so that no operation alone determines what
    follows. Shorter chains are filled up with ".", which changes nothing, so that operation k is
    always at position k.

        ((5 + 3) * 2) modulo 7, of at most three operations

        tokens   5 +3 *2 . =
        targets  .  .  . . 2
    """

    modulus: int = 7
    operations: int = 5
    """The largest number of operations; each example has its own, drawn from 1..operations. At most
    32."""
    exactly: int | None = None
    """If not None, the number of operations of every example; they are filled up to
    `operations`."""

    name = "modular-chain"
    difficulty_option = "operations"
    difficulty_unit = "operations"
    fixed_options = ("modulus",)
    separator = " "

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_size(self.name, "modulus", self.modulus, least=3)
        checked_size(self.name, "operations", self.operations)
        if self.operations > MOST:
            raise LoopscopeError(
                f"{self.name}'s operations must be at most {MOST}, but are {self.operations}."
            )
        if self.exactly is not None:
            checked_size(self.name, "exactly", self.exactly)
            if self.exactly > self.operations:
                raise LoopscopeError(
                    f"{self.name}'s exactly must be at most its operations, {self.operations}, but is "
                    f"{self.exactly}."
                )

    @property
    def _factors(self) -> list[int]:
        """What is multiplied by: numbers with an inverse, other than 1."""
        return [factor for factor in range(2, self.modulus) if gcd(factor, self.modulus) == 1]

    @property
    def symbols(self) -> tuple[str, ...]:
        """Numbers, then operations +1, +2, ..., *2, ..., and the marks "." and "="."""
        added = (f"+{term}" for term in range(1, self.modulus))
        multiplied = (f"*{factor}" for factor in self._factors)
        return (*map(str, range(self.modulus)), *added, *multiplied, ".", "=")

    @property
    def difficulty_limit(self) -> int:
        return MOST

    @property
    def _table(self) -> Int[Tensor, "operation value"]:
        """What each operation, the filler last, makes of each value."""
        value, m = torch.arange(self.modulus), self.modulus
        rows = [(value + term) % m for term in range(1, m)]
        rows += [value * factor % m for factor in self._factors]
        return torch.stack([*rows, value])

    def running(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch operations+1"]:
        """The value after 0, 1, 2, ... operations, fillers included."""
        table, values = self._table.to(tokens.device), [tokens[:, 0].long()]
        for operation in (tokens[:, 1:-1].long() - self.modulus).unbind(1):
            values.append(table[operation, values[-1]])
        return torch.stack(values, dim=1)

    def solve(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        tokens = self.check_tokens(tokens)
        return torch.cat([tokens[:, :-1], self.running(tokens)[:, -1:]], dim=1)

    def mask(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
        return self.check_tokens(tokens) == self.vocabulary - 1

    def check_tokens(self, tokens: Any) -> Int[Tensor, "batch position"]:
        tokens = super().check_tokens(tokens)
        m, filler, end = self.modulus, self.vocabulary - 2, self.vocabulary - 1
        fits = 3 <= tokens.shape[1] <= MOST + 2
        if fits:
            inside = tokens[:, 1:-1]
            filled = inside == filler
            fits = bool(
                (tokens[:, 0] < m).all()
                and ((inside >= m) & (inside < end)).all()
                and (tokens[:, -1] == end).all()
                and not filled[:, 0].any()
                and (filled[:, 1:] >= filled[:, :-1]).all()
            )
        if not fits:
            raise LoopscopeError(
                f"{self.name} needs a number (tokens 0..{m - 1}), 1 to {MOST} operations (tokens {m}.."
                f"{filler - 1}), any fillers '.' (token {filler}), and '=' (token {end}) at the end, such as "
                f"5 +3 *2 . =, but got {tokens[:1].tolist()} first. Use the tokens of this task's own "
                "batches."
            )
        return tokens

    def draw(self, size: int, generator: torch.Generator, **options: Any) -> Int[Tensor, "batch position"]:
        most, exactly = options["operations"], options["exactly"]
        low, high = (exactly, exactly) if exactly is not None else (1, most)
        start = torch.randint(0, self.modulus, (size, 1), generator=generator)
        count = torch.randint(low, high + 1, (size, 1), generator=generator)
        filler = self.vocabulary - 2
        operation = torch.randint(self.modulus, filler, (size, most), generator=generator)
        operation = torch.where(torch.arange(most) < count, operation, filler)
        return torch.cat([start, operation, torch.full((size, 1), filler + 1)], dim=1)

    def example_count(self, **options: Any) -> int:
        kinds, exactly = self.vocabulary - 2 - self.modulus, options["exactly"]
        counts = [exactly] if exactly else range(1, options["operations"] + 1)
        return self.modulus * sum(kinds**n for n in counts)

    def canonical_form(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch part"]:
        filled = F.pad(tokens[:, :-1], (0, MOST + 2 - tokens.shape[1]), value=self.vocabulary - 2)
        return filled  # the same whatever the number of fillers

    def make_batch(self, tokens: Int[Tensor, "batch position"]) -> ModularChainBatch:
        tokens = self.check_tokens(tokens)
        count = self._count(tokens)
        running = self.running(tokens)[:, : int(count.max()) + 1 if len(count) else 1]
        targets, mask = self.solve(tokens), self.mask(tokens)
        return ModularChainBatch(tokens, targets, mask, count.float(), running)

    def _count(self, tokens: Tensor) -> Int[Tensor, " batch"]:
        return (tokens[:, 1:-1] < self.vocabulary - 2).sum(1)

    def task_results(self, batch: ModularChainBatch, /) -> Chain:
        return Chain.of(batch.running[:, 1:], batch.difficulty.long(), batch.targets, batch.mask)

    def task_facts(self, batch: ModularChainBatch, /) -> dict[str, Fact]:
        result = {}
        for k in range(1, batch.running.shape[1] - 1):
            about = f"the value after {k} operation{'s' * (k > 1)}, in chains that go further"
            more = batch.difficulty > k
            result[f"value {k}"] = Fact(batch.running[:, k], more, about, is_intermediate=True)
        return result
