"""Integer addition, least significant digit first."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from .batch import Batch
from .fact import Fact
from .task import Task, checked_size

_PLUS, _EQUALS, _BLANK = 10, 11, 12


@dataclass(frozen=True)
class AdditionBatch(Batch):
    """Sums with their carries."""

    carry: Int[Tensor, "batch digits"]
    """Carry (0 or 1) out of each digit, least significant first."""


@dataclass(frozen=True)
class Addition(Task):
    """The sum of two numbers of `digits` digits, filled into blanks, all digits at once. Digits are
    reversed: carries run from left to right, so no answer depends on a later token.

        58 + 67 = 125        tokens   8 5 + 7 6 = _ _ _
                             targets  . . . . . . 5 2 1

    Two sums that differ only in the order of their numbers are the same example, in the same split.
    """

    digits: int = 6
    """Digits of each number, leading zeros included; the sum has one more. 1 to 18."""
    chain: int | None = None
    """If not None, the length of every example's longest carry chain, 0..digits. Uniformly drawn
    digits rarely have long ones."""

    name = "addition"
    symbols = (*"0123456789", "+", "=", "_")
    difficulty_option = "digits"
    difficulty_unit = "longest carry chain, in digits"

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_size(self.name, "digits", self.digits)
        if self.digits > 18:
            raise LoopscopeError(
                f"{self.name}'s digits must be at most 18 (numbers are int64), but are {self.digits}."
            )
        if self.chain is not None:
            checked_size(self.name, "chain", self.chain, least=0)
            if self.chain > self.digits:
                raise LoopscopeError(
                    f"{self.name}'s chain must be at most its digits, {self.digits}, but is {self.chain}."
                )

    @property
    def difficulty_limit(self) -> int:
        return 18

    def solve(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        tokens = self.check_tokens(tokens)
        a, b = self._numbers(tokens)
        carry = carries(a, b)
        before = torch.cat([torch.zeros_like(carry[:, :1]), carry[:, :-1]], dim=1)
        answer = torch.cat([(a + b + before) % 10, carry[:, -1:]], dim=1)
        return torch.cat([tokens[:, : -answer.shape[1]], answer], dim=1)

    def mask(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
        return self.check_tokens(tokens) == _BLANK

    def check_tokens(self, tokens: Any) -> Int[Tensor, "batch position"]:
        tokens = super().check_tokens(tokens)
        digits = (tokens.shape[1] - 3) // 3
        frame = torch.full((3 * digits + 3,), -1)
        frame[digits], frame[2 * digits + 1], frame[2 * digits + 2 :] = _PLUS, _EQUALS, _BLANK
        fits = digits >= 1 and tokens.shape[1] == len(frame)
        if not fits or not bool((torch.where(tokens < 10, -1, tokens) == frame.to(tokens.device)).all()):
            raise LoopscopeError(
                f"{self.name} needs d digits, '+', d digits, '=' and d + 1 blanks '_' (12), such as "
                f"85+76=___, but got {tokens[:1].tolist()} first. Use the tokens of this task's own batches."
            )
        return tokens

    def _numbers(self, tokens: Int[Tensor, "batch position"]) -> tuple[Tensor, Tensor]:
        digits = (tokens.shape[1] - 3) // 3
        return tokens[:, :digits], tokens[:, digits + 1 : 2 * digits + 1]

    def draw(self, size: int, generator: torch.Generator, **options: Any) -> Int[Tensor, "batch position"]:
        digits, chain = options["digits"], options["chain"]
        a, b = torch.randint(0, 10, (2, size, digits), generator=generator)
        if chain is not None:
            a, b = self._with_chain(a, b, chain, generator)
        signs = torch.tensor([_PLUS, _EQUALS]).expand(len(a), 2)
        blanks = torch.full((len(a), digits + 1), _BLANK)
        return torch.cat([a, signs[:, :1], b, signs[:, 1:], blanks], dim=1)

    def _with_chain(
        self, a: Tensor, b: Tensor, chain: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Sums whose longest carry chain is `chain`: one is written at a random place, and sums
        with a longer one are dropped."""
        size, digits = a.shape
        u = torch.rand((size, digits), generator=generator)
        if chain == 0:
            return a, (u * (10 - a)).long()  # every a + b is at most 9
        place = torch.arange(digits) - torch.randint(0, digits - chain + 1, (size, 1), generator=generator)
        a = torch.where((place == 0) & (a == 0), 1, a)  # a carry can start with any digit but 0 ...
        b = torch.where(place == 0, 10 - a + (u * a).long(), b)  # ... plus a digit that makes it 10 or more
        b = torch.where((place > 0) & (place < chain), 9 - a, b)
        right = longest_chain(a, b) == chain
        return a[right], b[right]

    def example_count(self, **options: Any) -> int:
        if options["digits"] == 1 and options["chain"] is not None:
            return 30 - 5 * options["chain"]  # 30 unordered pairs of digits make no carry, 25 make one
        pairs = 10 ** options["digits"]
        return pairs * (pairs + 1) // 2  # of two digits and more there are enough for every chain

    def canonical_form(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch part"]:
        a, b = self._numbers(self.check_tokens(tokens))
        powers = 10 ** torch.arange(a.shape[1])
        first, second = ((x * powers).sum(1) for x in (a, b))
        low, high = torch.minimum(first, second), torch.maximum(first, second)
        return torch.stack([n // 10**k % 10**6 for n in (low, high) for k in (0, 6, 12)], dim=1)

    def make_batch(self, tokens: Int[Tensor, "batch position"]) -> AdditionBatch:
        a, b = self._numbers(tokens)
        difficulty = longest_chain(a, b).float()
        return AdditionBatch(tokens, self.solve(tokens), self.mask(tokens), difficulty, carries(a, b))

    def task_facts(self, batch: AdditionBatch, /) -> dict[str, Fact]:
        before = torch.nn.functional.pad(
            batch.carry[:, :-1], (1, 0)
        )  # into each digit of the sum but the last, which is a carry itself
        values, mask = torch.zeros_like(batch.tokens), torch.zeros_like(batch.mask)
        digits = slice(batch.tokens.shape[1] - before.shape[1] - 1, -1)
        values[:, digits], mask[:, digits] = before, True
        mask[:, digits.start] = False  # no carry into the first
        return {"carry": Fact(values, mask, "the carry into this digit of the sum", is_intermediate=True)}


def carries(a: Int[Tensor, "batch digits"], b: Int[Tensor, "batch digits"]) -> Int[Tensor, "batch digits"]:
    """The carry (0 or 1) out of every digit place, least significant first."""
    carry, out = torch.zeros_like(a[:, 0]), []
    for x, y in zip(a.unbind(1), b.unbind(1), strict=True):
        carry = (x + y + carry) // 10
        out.append(carry)
    return torch.stack(out, dim=1)


def longest_chain(a: Int[Tensor, "batch digits"], b: Int[Tensor, "batch digits"]) -> Int[Tensor, " batch"]:
    """The length of the longest carry chain: 1 where a carry starts (a + b >= 10), and one more for
    each digit sum of 9 that passes it on."""
    run, longest = torch.zeros_like(a[:, 0]), torch.zeros_like(a[:, 0])
    for x, y in zip(a.unbind(1), b.unbind(1), strict=True):
        passes = (x + y == 9) & (run > 0)
        run = torch.where(x + y >= 10, 1, torch.where(passes, run + 1, 0))
        longest = torch.maximum(longest, run)
    return longest
