"""The largest symbol so far. Say here: the rule, why a loop helps, and the paper."""

from dataclasses import dataclass

import torch
from torch import Tensor

from loopscope.tasks import Batch, Task


@dataclass(frozen=True)
class MyTask(Task):
    """Strings of digits; the answer at each position is the largest digit up to there."""

    length: int = 8
    """Digits in a string."""
    name, symbols = "my-task", tuple("0123456789")
    difficulty_option, difficulty_unit = "length", "largest digit"

    def solve(self, tokens: Tensor) -> Tensor:
        """The exact answers."""
        return tokens.cummax(1).values

    def mask(self, tokens: Tensor) -> Tensor:
        """Every position is answered."""
        return torch.ones_like(tokens, dtype=torch.bool)

    def draw(self, size: int, generator: torch.Generator, /, **options: int) -> Tensor:
        """Random strings."""
        return torch.randint(0, 10, (size, options["length"]), generator=generator)

    def example_count(self, **options: int) -> int:
        """How many strings there are."""
        return 10 ** options["length"]

    def make_batch(self, tokens: Tensor) -> Batch:
        """Strings with their answers; the difficulty is the largest digit."""
        return Batch(tokens, self.solve(tokens), self.mask(tokens), tokens.amax(1).float())
