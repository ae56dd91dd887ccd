"""Mano: modular arithmetic on expressions in prefix notation, worked out in the head."""

from dataclasses import dataclass
from math import comb
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from .fact import Fact
from .task import Batch, Task, checked_size

MOST = 32  # numbers of operators that have a token, whatever is trained on
_OPERATORS = ("+", "-", "*")


@dataclass(frozen=True)
class ManoBatch(Batch):
    """Expressions with the values of their parts."""

    values: Int[Tensor, "batch position"]
    """The value of the part that begins at each position (a number's is itself); -1 where none
    begins."""


@dataclass(frozen=True)
class Mano(Task):
    """The value of an expression of `+`, `-` and `*` modulo a number, with no room to write
    anything down.

    From Physics of Language Models 4.1 (Allen-Zhu 2025), as in Ouro (Zhu et al. 2025, arXiv
    2510.25741): modulus 23, a mark that tells the number of operators, the operators first, that
    number drawn uniformly from 1..L. How the operators are shared out is not in the papers; here
    those left of and below each one are any number of the rest, equally likely.

        (3 * 2) - (4 + 1) modulo 7, with room for one operator more

        tokens   _ _ ^ l3 - * 3 2 + 4 1 =
        targets  . . .  . . . . . . . . 1

    Shorter expressions are padded on the left with "_", so that every row is asked at its last
    position. Padding asks for nothing, and is no part of an example: with room for more operators
    it is the same one, on the same side of the line between training and test.
    """

    modulus: int = 23
    operators: int = 10
    """The largest number of operators; each example draws its own from 1..operators. Up to 32 have
    a token."""
    exactly: int | None = None
    """If given, every example has so many operators, whatever `operators` is."""

    name = "mano"
    dial = "operators"
    difficulty = "operators"
    fixed = ("modulus",)
    between = " "

    def __post_init__(self) -> None:
        checked_size(self.name, "modulus", self.modulus, least=2)
        for option, value in (("operators", self.operators), ("exactly", self.exactly)):
            if value is not None:
                checked_size(self.name, option, value)
                if value > MOST:
                    raise LoopscopeError(
                        f"{self.name}'s {option} must be at most {MOST}, the last number that has a token, "
                        f"but is {value}."
                    )

    @property
    def symbols(self) -> tuple[str, ...]:
        marks = (f"l{n}" for n in range(1, MOST + 1))
        return (*map(str, range(self.modulus)), *_OPERATORS, *marks, "^", "=", "_")

    @property
    def limit(self) -> int:
        return MOST

    @property
    def _marks(self) -> int:
        """The token before the mark of one operator."""
        return self.modulus + len(_OPERATORS) - 1

    def solve(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        tokens = self._checked(tokens)
        return self._answered(tokens, values(tokens, self.modulus))

    def mask(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
        return self._checked(tokens) == self.vocabulary - 2

    def _answered(self, tokens: Tensor, parts: Tensor) -> Tensor:
        begin = (tokens == self.vocabulary - 3).int().argmax(1, keepdim=True)
        return torch.cat([tokens[:, :-1], parts.gather(1, begin + 2)], dim=1)

    def _checked(self, tokens: Any) -> Int[Tensor, "batch position"]:
        tokens = super()._checked(tokens)
        begin, end, pad = (self.vocabulary - k for k in (3, 2, 1))
        m, width = self.modulus, tokens.shape[1]
        place, start = (
            torch.arange(width, device=tokens.device),
            (tokens == begin).int().argmax(1, keepdim=True),
        )
        fits = width >= 6 and bool((tokens == begin).any(1).all() and (start < width - 5).all())
        if fits:
            count = tokens.gather(1, start + 1) - self._marks
            inside = (place > start + 1) & (place < width - 1)
            owed = 1 + (inside * torch.where(tokens < m, -1, 1)).cumsum(1)  # operands that are still to come
            fits = bool(
                (2 * count + 4 == width - start).all()
                and ((tokens == pad) == (place < start)).all()
                and (tokens[:, -1] == end).all()
                and (tokens < m + len(_OPERATORS))[inside].all()
                and ((owed > 0) | (place >= width - 2)).all()
                and (owed[:, -1] == 0).all()
            )
        if not fits:
            raise LoopscopeError(
                f"{self.name} needs any padding '_', then '^', a mark l1..l{MOST} for the number of "
                "operators, an expression in prefix notation with so many of them, and '=' at the end, such "
                "as ^ l2 + 1 * 2 3 =, but got "
                f"{tokens[:1].tolist()} first. Use the tokens of this task's own batches."
            )
        return tokens

    def _draw(self, size: int, generator: torch.Generator, **chosen: Any) -> Int[Tensor, "batch position"]:
        low, high = (chosen["exactly"],) * 2 if chosen["exactly"] is not None else (1, chosen["operators"])
        count = torch.randint(low, high + 1, (size, 1), generator=generator)
        rows = [torch.full((size, 1), self.vocabulary - 3), self._marks + count]
        waiting, depth = (
            F.pad(count, (0, high + 1)),
            torch.ones_like(count),
        )  # operators of the parts to be written
        for _ in range(2 * high + 1):
            here = (depth - 1).clamp(min=0)
            top = waiting.gather(1, here)
            number = torch.randint(0, self.modulus, (size, 1), generator=generator)
            operator = self.modulus + torch.randint(0, len(_OPERATORS), (size, 1), generator=generator)
            left = (torch.rand((size, 1), generator=generator) * top).long().clamp(max=top - 1)
            token = torch.where(top > 0, operator, number)
            rows.append(torch.where(depth > 0, token, self.vocabulary - 1))
            waiting = waiting.scatter(1, here, torch.where(top > 0, top - 1 - left, 0)).scatter(
                1, here + 1, left
            )
            depth = torch.where(top > 0, depth + 1, (depth - 1).clamp(min=0))
        rows.append(torch.full((size, 1), self.vocabulary - 2))
        tokens = torch.cat(rows, dim=1)
        padding = 2 * (high - count)  # stands before the end so far, and goes to the front
        place = torch.arange(tokens.shape[1] - 1) - padding
        return torch.cat([tokens.gather(1, place % (tokens.shape[1] - 1)), tokens[:, -1:]], dim=1)

    def _space(self, **chosen: Any) -> int:
        counts = [chosen["exactly"]] if chosen["exactly"] else range(1, chosen["operators"] + 1)
        return sum(comb(2 * n, n) // (n + 1) * 3**n * self.modulus ** (n + 1) for n in counts)

    def _identity(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch part"]:
        return F.pad(tokens, (2 * MOST + 4 - tokens.shape[1], 0), value=self.vocabulary - 1)

    def _labelled(self, tokens: Int[Tensor, "batch position"]) -> ManoBatch:
        tokens = self._checked(tokens)
        parts = values(tokens, self.modulus)
        count = ((tokens >= self.modulus) & (tokens <= self._marks)).sum(1)
        return ManoBatch(tokens, self._answered(tokens, parts), self.mask(tokens), count.float(), parts)

    def _facts(self, batch: ManoBatch, /) -> dict[str, Fact]:
        root = (batch.tokens == self.vocabulary - 3).int().argmax(1, keepdim=True) + 2
        place = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
        weight = torch.where(batch.tokens < self.modulus, -1, 1) * (place > root)
        written = (1 + weight.cumsum(1) == 0) & (
            place > root
        )  # the left part ends where nothing more is owed to it
        right = written.int().argmax(1, keepdim=True) + 1
        result = {}
        for name, start in (("left part", root + 1), ("right part", right)):
            operator = batch.tokens.gather(1, start)[:, 0] >= self.modulus
            value = batch.values.gather(1, start)[:, 0]
            about = f"the value of the {name} of the expression, where it has an operator of its own"
            result[name] = Fact(torch.where(operator, value, 0), operator, about, on_the_way=True)
        return result


def values(tokens: Int[Tensor, "batch position"], modulus: int) -> Int[Tensor, "batch position"]:
    """The value of the part that begins at each position, -1 where none does. From right to left,
    with a stack."""
    batch, width = tokens.shape
    stack, depth = (
        tokens.new_zeros(batch, width + 2),
        tokens.new_full((batch, 1), 2),
    )  # two more, for the rest to pop
    result = []
    for token in tokens.flip(1).split(1, dim=1):
        number, operator = token < modulus, (token >= modulus) & (token < modulus + len(_OPERATORS))
        a, b = stack.gather(1, depth - 1), stack.gather(1, depth - 2)
        done = torch.where(
            token == modulus, a + b, torch.where(token == modulus + 1, a - b, a * b)
        ).remainder(modulus)
        depth = depth + number.long() - operator.long()
        value = torch.where(number, token, done)
        inside = number | operator
        stack = stack.scatter(1, depth - 1, torch.where(inside, value, stack.gather(1, depth - 1)))
        result.append(torch.where(inside, value, -1))
    return torch.cat(result, dim=1).flip(1)
