"""A looped transformer that learns linear regression in context acts as an optimiser that is better
than gradient descent, step for step (Yang et al. 2024, arXiv 2311.12424).

The recipe of regression-linear: four dimensions, twelve points, each predicted from those before
it. Gradient descent starts from zero on the mean squared error of the points before, and has for
each number of steps the rate that is then best on average, of eight. Errors are in units of the
variance of y; least squares takes the smallest weights where they aren't determined.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.recorder import record
from loopscope.replication import Finding, Measurement, Paper, Trainings
from loopscope.training import Recipe, recipe_of

finding = Finding(
    number=26,
    claim="Looped regression acts as an optimiser, better than GD per step",
    source=Paper("Yang et al.", 2024, "2311.12424"),
    metric="MSE by k vs GD best rate",
    criterion="crosses below by k <= 6; within .05 of least squares",
    minutes=34,
)

ITERATIONS, EXAMPLES = 12, 1000
RATES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8)


def trainings() -> dict[str, Recipe]:
    """The recipe of the zoo."""
    return {"looped": recipe_of("regression-linear")}


def measure(seed: int, trained: Trainings) -> Measurement:
    """The iteration from which on the loop is better, and its excess over least squares."""
    model = trained("looped")
    batch = model.task.batch(EXAMPLES, seed=seed)
    run = record(model, batch.tokens, ITERATIONS)
    x, y = batch.tokens[:, 0::2].double(), batch.tokens[:, 1::2, 0].double()
    y = torch.cat([y, y.new_zeros(len(y), x.shape[1] - y.shape[1])], 1)  # the last may be only asked for
    target = batch.targets[batch.mask].view(len(x), -1).double()
    loop = [
        error(run.logits[k][..., 0][batch.mask].view(len(x), -1).double(), target)
        for k in range(ITERATIONS + 1)
    ]
    descent = (
        torch.stack([descended(x, y, target, rate) for rate in RATES]).nan_to_num(math.inf).amin(0).tolist()
    )
    squares = error(torch.stack([least_squares(x, y, p) for p in range(x.shape[1])], 1), target)
    better = [loop[k] < descent[k] for k in range(ITERATIONS + 1)]
    first = next((k for k in range(ITERATIONS + 1) if all(better[k:])), math.nan)
    numbers = {
        "first k below gradient descent": float(first),
        "excess over least squares": loop[-1] - squares,
        "error of the loop": loop[-1],
        "error of gradient descent": descent[-1],
        "error of least squares": squares,
    }
    return Measurement(numbers, {"the loop": loop, "gradient descent": descent})


def error(answer: Tensor, target: Tensor) -> float:
    """The mean squared error in units of the variance of the targets."""
    return float((answer - target).square().mean() / target.square().mean())


def descended(x: Tensor, y: Tensor, target: Tensor, rate: float) -> Float[Tensor, " step"]:
    """The error after 0, 1, ... steps of gradient descent at this rate."""
    points = x.shape[1]
    w = x.new_zeros(len(x), points, x.shape[2])  # one for each number of points before
    before = torch.tril(torch.ones(points, points, dtype=x.dtype), -1)  # (asked for, given)
    errors = []
    for _ in range(ITERATIONS + 1):
        errors.append(error((w * x).sum(-1), target))
        residual = (torch.einsum("bpd,bqd->bpq", w, x) - y[:, None]) * before
        w = w - rate * torch.einsum("bpq,bqd->bpd", residual, x) / before.sum(1).clamp(min=1)[:, None]
    return torch.tensor(errors, dtype=torch.float64)


def least_squares(x: Tensor, y: Tensor, points: int) -> Float[Tensor, " example"]:
    """What least squares on the first points answers at the next."""
    if points == 0:
        return y.new_zeros(len(y))
    w = torch.linalg.pinv(x[:, :points]) @ y[:, :points, None]
    return (w[..., 0] * x[:, points]).sum(-1)


def holds(numbers: dict[str, float]) -> bool:
    """Both bounds."""
    return numbers["first k below gradient descent"] <= 6 and numbers["excess over least squares"] <= 0.05
