"""In-context linear regression: points of a hidden linear function, whose value is asked at each
before it is shown."""

from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from .task import Batch, Task, checked_size

_GRID = 2**10
# Drawn numbers are multiples of 1/1024: sums of their products are exact, so the same on every
# machine.


@dataclass(frozen=True)
class RegressionBatch(Batch):
    """Points on hidden linear functions."""

    tokens: Float[Tensor, "batch position feature"]
    targets: Float[Tensor, "batch position"]
    """y of the point that each position belongs to."""


@dataclass(frozen=True)
class Regression(Task):
    """Guess y = w·x (+ noise) from the points so far (Garg et al. 2022, arXiv 2208.01066; looped:
    Yang et al. 2023, arXiv 2311.12424). w, x and the noise are standard normal, the noise times
    `noise`; nothing divides by the dimension, so y's variance is about `dimensions`, by which
    losses and scores are measured.

    Inputs are numbers rather than tokens. x and y take turns, each at a position of its own, as
    published: y stands in the first feature, and zeros behind it. A causal model answers at each x,
    before it sees that y; so all positions of x are asked, from the first, where nothing is known
    yet, on.

        tokens   x₁  y₁00..  x₂  y₂00..  x₃  y₃00..
        targets  y₁  .       y₂  .       y₃  .

    All labels are read from the tokens: the answer to a position is shown at the next, and a model
    that isn't causal would copy it. With as many points as dimensions, and no noise, least squares
    knows w.

    The first point says whether an example is for testing, so that one with more or fewer points
    behind it stays there. Difficulty is the largest singular value of the matrix of all x over its
    smallest: the larger, the slower gradient descent.
    """

    dimensions: int = 8
    points: int = 16
    noise: float = 0.0
    """Standard deviation of what is added to every y."""

    name = "regression"
    symbols = ()
    dial = "points"
    difficulty = "condition number of the points"
    fixed = ("dimensions",)
    continuous = True
    score = "variance explained"

    def __post_init__(self) -> None:
        checked_size(self.name, "dimensions", self.dimensions)
        checked_size(self.name, "points", self.points)
        number = isinstance(self.noise, int | float) and not isinstance(self.noise, bool)
        if not number or not 0 <= self.noise < inf:
            raise LoopscopeError(f"{self.name}'s noise must be a number, 0 or more, but is {self.noise!r}.")

    @property
    def vocabulary(self) -> int:
        return 1

    @property
    def features(self) -> int:
        return self.dimensions

    def losses(
        self, logits: Float[Tensor, "batch position 1"], targets: Float[Tensor, "batch position"]
    ) -> Float[Tensor, "batch position"]:
        """Squared error in units of y's variance: 1 for an answer that is always 0."""
        return self.differ(self.answer(logits), targets)

    def answer(self, logits: Float[Tensor, "*axes 1"]) -> Float[Tensor, "*axes"]:
        """The number itself."""
        return logits.squeeze(-1).float()

    def differ(self, first: Float[Tensor, "*axes"], second: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        """The square in units of y's variance. So `right` is 0 on average for answers of 0, and
        worse may be below."""
        return (first - second) ** 2 / self.dimensions

    def solve(self, tokens: Float[Tensor, "batch position feature"]) -> Float[Tensor, "batch position"]:
        return self._checked(tokens)[:, 1::2, 0].repeat_interleave(2, dim=1)

    def mask(self, tokens: Float[Tensor, "batch position feature"]) -> Bool[Tensor, "batch position"]:
        tokens = self._checked(tokens)
        return (torch.arange(tokens.shape[1], device=tokens.device) % 2 == 0).repeat(len(tokens), 1)

    def render(self, tokens: Float[Tensor, "batch position feature"]) -> list[str]:
        """One string per example: each point as (x) → y, with two decimals."""
        xs, ys = parts(self._checked(tokens))
        return [
            "  ".join(f"({' '.join(f'{a:.2f}' for a in x)}) → {y:.2f}" for x, y in zip(*row, strict=True))
            for row in zip(xs.tolist(), ys.tolist(), strict=True)
        ]

    def _checked(self, tokens: Any) -> Float[Tensor, "batch position feature"]:
        good = isinstance(tokens, Tensor) and tokens.is_floating_point() and tokens.ndim == 3
        good = good and tokens.shape[1] % 2 == 0 < tokens.shape[1] and tokens.shape[2] == self.dimensions
        if not good or bool((tokens[:, 1::2, 1:] != 0).any()):
            got = (
                f"{tokens.dtype} {tuple(tokens.shape)}"
                if isinstance(tokens, Tensor)
                else type(tokens).__name__
            )
            raise LoopscopeError(
                f"{self.name} needs numbers (batch, 2 * points, {self.dimensions}), in which x and y take "
                f"turns and zeros stand behind each y, but got {got}. Use the tokens of this task's own "
                "batches."
            )
        return tokens

    def _draw(self, size: int, generator: torch.Generator, /, **chosen: Any) -> Tensor:
        def normal(*shape: int) -> Tensor:
            drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
            return (drawn * _GRID).round() / _GRID

        x, w = normal(size, chosen["points"], self.dimensions), normal(size, 1, self.dimensions)
        y = (x * w).sum(-1) + chosen["noise"] * normal(size, chosen["points"])
        tokens = torch.zeros(size, 2 * chosen["points"], self.dimensions)
        tokens[:, 0::2], tokens[:, 1::2, 0] = x.float(), y.float()
        return tokens

    def _space(self, **chosen: Any) -> int:
        return _GRID ** (self.dimensions + 1)

    def _identity(self, tokens: Float[Tensor, "batch position feature"]) -> Int[Tensor, "batch part"]:
        x, y = parts(self._checked(tokens))
        return torch.cat([x[:, 0], y[:, :1]], dim=1).float().view(torch.int32).long() & 0xFFFFFFFF

    def _labelled(self, tokens: Float[Tensor, "batch position feature"]) -> RegressionBatch:
        spread = torch.linalg.svdvals(parts(tokens)[0].double())
        difficulty = (spread[:, 0] / spread[:, -1]).float()
        return RegressionBatch(tokens, self.solve(tokens), self.mask(tokens), difficulty)


def parts(
    tokens: Float[Tensor, "batch position feature"],
) -> tuple[Float[Tensor, "batch point feature"], Float[Tensor, "batch point"]]:
    """The points' x and y."""
    return tokens[:, 0::2], tokens[:, 1::2, 0]


def least_squares(tokens: Float[Tensor, "batch position feature"]) -> Float[Tensor, "batch position"]:
    """What least squares answers at each x from the points before it, with the smallest w that
    fits; 0 at positions of y.

    No answer without noise is better on average, as w is as likely in any direction (Garg et al.
    2022).
    """
    x, y = (part.double() for part in parts(tokens))
    answers = [torch.zeros_like(y[:, 0])]
    for n in range(1, y.shape[1]):
        w = torch.linalg.pinv(x[:, :n]) @ y[:, :n, None]
        answers.append((x[:, n] * w[..., 0]).sum(-1))
    return _at_inputs(torch.stack(answers, dim=-1)).to(tokens.dtype)


def gradient_descent(
    tokens: Float[Tensor, "batch position feature"], iterations: int, rate: float
) -> Float[Tensor, "iteration batch position"]:
    """What gradient descent from w = 0 answers at each x from the points before it, after 0, 1, ...
    `iterations`.

    The loss of n points is the mean of (w·x - y)² / 2 over them, so that one rate suits any n; 0 at
    positions of y.
    """
    x, y = (part.double() for part in parts(tokens))
    n = x.shape[1]
    seen = torch.ones(n, n, dtype=x.dtype, device=x.device).tril(-1)  # (point asked, point before)
    share = seen / seen.sum(-1, keepdim=True).clamp(min=1)
    w = torch.zeros_like(x)  # one for each point that is asked
    answers = []
    for k in range(iterations + 1):
        answers.append((w * x).sum(-1))
        if k < iterations:
            error = w @ x.mT - y[:, None]  # of each asked point's w at every point
            w = w - rate * (share * error) @ x
    return _at_inputs(torch.stack(answers)).to(tokens.dtype)


def _at_inputs(answers: Float[Tensor, "*axes point"]) -> Float[Tensor, "*axes position"]:
    return torch.stack([answers, torch.zeros_like(answers)], dim=-1).flatten(-2)
