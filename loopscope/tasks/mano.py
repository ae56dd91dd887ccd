"""Mano: modular arithmetic on expressions in prefix notation, without intermediate tokens."""

from dataclasses import dataclass
from math import comb
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from .batch import Batch
from .fact import Fact
from .task import Task, checked_size

MOST = 32  # the largest number of operators that has a token
_OPERATORS = ("+", "-", "*")


@dataclass(frozen=True)
class ManoBatch(Batch):
    """Expressions with the values of their subexpressions."""

    values: Int[Tensor, "batch position"]
    """The value of the subexpression that begins at each position (that of a number is itself); -1
    where none begins."""


@dataclass(frozen=True)
class Mano(Task):
    """The value of an expression of `+`, `-` and `*` modulo a number, with no tokens for
    intermediate results.

    From Physics of Language Models 4.1 (Allen-Zhu 2025), as in Ouro (Zhu et al. 2025, arXiv
    2510.25741): modulus 23, prefix notation, a token for the number of operators, which is drawn
    uniformly from 1..L. The papers don't say how expressions are drawn; here the number of
    operators in each left subexpression is drawn uniformly.

        (3 * 2) - (4 + 1) modulo 7, padded by one operator

        tokens   _ _ ^ l3 - * 3 2 + 4 1 =
        targets  . . .  . . . . . . . . 1

    Shorter expressions are padded on the left with "_", so that the answer is always at the last
    position. Padding is no part of an example: with more of it, the example is the same one, in the
    same split.
    """

    modulus: int = 23
    operators: int = 10
    """The largest number of operators; each example has its own, drawn from 1..operators. At most
    32."""
    exactly: int | None = None
    """If not None, the number of operators of every example, in place of `operators`."""

    name = "mano"
    difficulty_option = "operators"
    difficulty_unit = "operators"
    fixed_options = ("modulus",)
    separator = " "

    def __post_init__(self) -> None:
        super().__post_init__()
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
    def pad_token(self) -> int:
        return self.vocabulary - 1

    @property
    def symbols(self) -> tuple[str, ...]:
        """Numbers, operators, numbers of operators l1, l2, ..., and three marks."""
        marks = (f"l{n}" for n in range(1, MOST + 1))
        return (*map(str, range(self.modulus)), *_OPERATORS, *marks, "^", "=", "_")

    @property
    def difficulty_limit(self) -> int:
        return MOST

    @property
    def _marks(self) -> int:
        """The token before l1."""
        return self.modulus + len(_OPERATORS) - 1

    def solve(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        tokens = self.check_tokens(tokens)
        return self._answered(tokens, values(tokens, self.modulus))

    def mask(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
        return self.check_tokens(tokens) == self.vocabulary - 2

    def _answered(self, tokens: Tensor, parts: Tensor) -> Tensor:
        begin = (tokens == self.vocabulary - 3).int().argmax(1, keepdim=True)
        return torch.cat([tokens[:, :-1], parts.gather(1, begin + 2)], dim=1)

    def check_tokens(self, tokens: Any) -> Int[Tensor, "batch position"]:
        tokens = super().check_tokens(tokens)
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
            missing = 1 + (inside * torch.where(tokens < m, -1, 1)).cumsum(1)  # operands still to come
            fits = bool(
                (2 * count + 4 == width - start).all()
                and ((tokens == pad) == (place < start)).all()
                and (tokens[:, -1] == end).all()
                and (tokens < m + len(_OPERATORS))[inside].all()
                and ((missing > 0) | (place >= width - 2)).all()
                and (missing[:, -1] == 0).all()
            )
        if not fits:
            raise LoopscopeError(
                f"{self.name} needs any padding '_', then '^', a mark l1..l{MOST} for the number of "
                "operators, an expression in prefix notation with so many of them, and '=' at the end, such "
                "as ^ l2 + 1 * 2 3 =, but got "
                f"{tokens[:1].tolist()} first. Use the tokens of this task's own batches."
            )
        return tokens

    def draw(self, size: int, generator: torch.Generator, **options: Any) -> Int[Tensor, "batch position"]:
        low, high = (options["exactly"],) * 2 if options["exactly"] is not None else (1, options["operators"])
        count = torch.randint(low, high + 1, (size, 1), generator=generator)
        rows = [torch.full((size, 1), self.vocabulary - 3), self._marks + count]
        waiting, depth = (
            F.pad(count, (0, high + 1)),
            torch.ones_like(count),
        )  # operators of the subexpressions still to be written
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
        padding = 2 * (high - count)  # at the end until here, moved to the front
        place = torch.arange(tokens.shape[1] - 1) - padding
        return torch.cat([tokens.gather(1, place % (tokens.shape[1] - 1)), tokens[:, -1:]], dim=1)

    def example_count(self, **options: Any) -> int:
        counts = [options["exactly"]] if options["exactly"] else range(1, options["operators"] + 1)
        return sum(comb(2 * n, n) // (n + 1) * 3**n * self.modulus ** (n + 1) for n in counts)

    def canonical_form(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch part"]:
        return F.pad(tokens, (2 * MOST + 4 - tokens.shape[1], 0), value=self.vocabulary - 1)

    def make_batch(self, tokens: Int[Tensor, "batch position"]) -> ManoBatch:
        tokens = self.check_tokens(tokens)
        parts = values(tokens, self.modulus)
        count = ((tokens >= self.modulus) & (tokens <= self._marks)).sum(1)
        return ManoBatch(tokens, self._answered(tokens, parts), self.mask(tokens), count.float(), parts)

    def task_facts(self, batch: ManoBatch, /) -> dict[str, Fact]:
        root = (batch.tokens == self.vocabulary - 3).int().argmax(1, keepdim=True) + 2
        place = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
        weight = torch.where(batch.tokens < self.modulus, -1, 1) * (place > root)
        ends = (1 + weight.cumsum(1) == 0) & (place > root)  # the left part has all its operands here
        right = ends.int().argmax(1, keepdim=True) + 1
        result = {}
        for name, start in (("left part", root + 1), ("right part", right)):
            operator = batch.tokens.gather(1, start)[:, 0] >= self.modulus
            value = batch.values.gather(1, start)[:, 0]
            about = f"the value of the {name} of the expression, where it has an operator of its own"
            result[name] = Fact(torch.where(operator, value, 0), operator, about, is_intermediate=True)
        return result


def values(tokens: Int[Tensor, "batch position"], modulus: int) -> Int[Tensor, "batch position"]:
    """The value of the subexpression that begins at each position, -1 where none does. From right
    to left, with a stack."""
    batch, width = tokens.shape
    stack = tokens.new_zeros(batch, width + 2)  # two more, so that other tokens can pop
    depth = tokens.new_full((batch, 1), 2)
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
