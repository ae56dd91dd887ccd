"""In-context linear regression: predict y at each x from the points before it."""

from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from .batch import Batch
from .task import Task, checked_size

_GRID = 2**10
# Drawn numbers are multiples of 1/1024: sums of their products are exact, so the same on every
# machine.


@dataclass(frozen=True)
class RegressionBatch(Batch):
    """Points of linear functions."""

    tokens: Float[Tensor, "batch position feature"]
    targets: Float[Tensor, "batch position"]
    """y of the point that each position belongs to."""


@dataclass(frozen=True)
class Regression(Task):
    """Predict y = w·x (+ noise) from the points so far (Garg et al. 2022, arXiv 2208.01066; looped:
    Yang et al. 2023, arXiv 2311.12424). w and x are standard normal, the noise has
    standard deviation `noise`. Nothing is divided by the dimension, so y's variance is about
    `dimensions`, the unit of losses and scores.

    Inputs are real numbers rather than tokens. x and y alternate, each at its own position, as
    published; y is in the first feature, followed by zeros. A causal model answers at each x,
    before it reads that y. All positions of x are in the mask, also the first, which has no point
    before it.

        tokens   x₁  y₁00..  x₂  y₂00..  x₃  y₃00..
        targets  y₁  .       y₂  .       y₃  .

    The answer at a position is the input at the next, so a model that isn't causal could copy it.
    With as many points as dimensions, and no noise, least squares finds w exactly.

    The first point decides whether an example is for testing, so more or fewer points after it
    don't change the split. Difficulty is the condition number of the matrix of all x: the larger,
    the slower gradient descent.
    """

    dimensions: int = 8
    points: int = 16
    noise: float = 0.0
    """Standard deviation of the noise added to every y."""

    name = "regression"
    symbols = ()
    difficulty_option = "points"
    difficulty_unit = "condition number of the points"
    fixed_options = ("dimensions",)
    continuous = True
    score = "variance explained"

    def __post_init__(self) -> None:
        super().__post_init__()
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

    def position_names(self, positions: int) -> list[str]:
        return [f"{'xy'[p % 2]}{p // 2 + 1}" for p in range(positions)]

    def losses(
        self, logits: Float[Tensor, "batch position 1"], targets: Float[Tensor, "batch position"]
    ) -> Float[Tensor, "batch position"]:
        """Squared error in units of y's variance: 1 for an answer that is always 0."""
        return self.answer_distance(self.answer(logits), targets)

    def answer(self, logits: Float[Tensor, "*axes 1"]) -> Float[Tensor, "*axes"]:
        """The predicted number."""
        return logits.squeeze(-1).float()

    def answer_distance(
        self, first: Float[Tensor, "*axes"], second: Float[Tensor, "*axes"]
    ) -> Float[Tensor, "*axes"]:
        """The squared difference in units of y's variance. So `correctness` is 0 on average for an
        answer of 0, and negative for worse answers."""
        return (first - second) ** 2 / self.dimensions

    def solve(self, tokens: Float[Tensor, "batch position feature"]) -> Float[Tensor, "batch position"]:
        return self.check_tokens(tokens)[:, 1::2, 0].repeat_interleave(2, dim=1)

    def mask(self, tokens: Float[Tensor, "batch position feature"]) -> Bool[Tensor, "batch position"]:
        tokens = self.check_tokens(tokens)
        return (torch.arange(tokens.shape[1], device=tokens.device) % 2 == 0).repeat(len(tokens), 1)

    def render(self, tokens: Float[Tensor, "batch position feature"]) -> list[str]:
        """One string per example: each point as (x) → y, with two decimals."""
        xs, ys = parts(self.check_tokens(tokens))
        return [
            "  ".join(f"({' '.join(f'{a:.2f}' for a in x)}) → {y:.2f}" for x, y in zip(*row, strict=True))
            for row in zip(xs.tolist(), ys.tolist(), strict=True)
        ]

    def check_tokens(self, tokens: Any) -> Float[Tensor, "batch position feature"]:
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

    def draw(self, size: int, generator: torch.Generator, /, **options: Any) -> Tensor:
        def normal(*shape: int) -> Tensor:
            drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
            return (drawn * _GRID).round() / _GRID

        x, w = normal(size, options["points"], self.dimensions), normal(size, 1, self.dimensions)
        y = (x * w).sum(-1) + options["noise"] * normal(size, options["points"])
        tokens = torch.zeros(size, 2 * options["points"], self.dimensions)
        tokens[:, 0::2], tokens[:, 1::2, 0] = x.float(), y.float()
        return tokens

    def example_count(self, **options: Any) -> int:
        return _GRID ** (self.dimensions + 1)

    def canonical_form(self, tokens: Float[Tensor, "batch position feature"]) -> Int[Tensor, "batch part"]:
        x, y = parts(self.check_tokens(tokens))
        return torch.cat([x[:, 0], y[:, :1]], dim=1).float().view(torch.int32).long() & 0xFFFFFFFF

    def make_batch(self, tokens: Float[Tensor, "batch position feature"]) -> RegressionBatch:
        spread = torch.linalg.svdvals(parts(tokens)[0].double())
        difficulty = (spread[:, 0] / spread[:, -1]).float()
        return RegressionBatch(tokens, self.solve(tokens), self.mask(tokens), difficulty)


def parts(
    tokens: Float[Tensor, "batch position feature"],
) -> tuple[Float[Tensor, "batch point feature"], Float[Tensor, "batch point"]]:
    """The points' x and y."""
    return tokens[:, 0::2], tokens[:, 1::2, 0]


def least_squares(tokens: Float[Tensor, "batch position feature"]) -> Float[Tensor, "batch position"]:
    """The minimum-norm least-squares prediction at each x from the points before it; 0 at positions
    of y.

    Without noise no predictor is better on average, as w is isotropic (Garg et al. 2022).
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
    """The prediction of gradient descent from w = 0 at each x from the points before it, after 0,
    1, ... `iterations` steps; 0 at positions of y.

    The loss of n points is the mean of (w·x - y)² / 2 over them, so that one learning rate suits
    any n.
    """
    x, y = (part.double() for part in parts(tokens))
    n = x.shape[1]
    before = torch.ones(n, n, dtype=x.dtype, device=x.device).tril(-1)  # (predicted, earlier point)
    share = before / before.sum(-1, keepdim=True).clamp(min=1)
    w = torch.zeros_like(x)  # one for each predicted point
    answers = []
    for k in range(iterations + 1):
        answers.append((w * x).sum(-1))
        if k < iterations:
            error = w @ x.mT - y[:, None]  # of each predicted point's w at every point
            w = w - rate * (share * error) @ x
    return _at_inputs(torch.stack(answers)).to(tokens.dtype)


def _at_inputs(answers: Float[Tensor, "*axes point"]) -> Float[Tensor, "*axes position"]:
    return torch.stack([answers, torch.zeros_like(answers)], dim=-1).flatten(-2)
