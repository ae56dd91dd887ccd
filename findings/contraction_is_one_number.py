"""At a fixed point the log of the spectral radius, the log of the contraction rate and the largest
Lyapunov exponent are one number (a theorem for linear maps, to first order for others).

Measured on random loops that settle: 4 layers, pre-norm, injection, gain 0.4, in double precision.
Each estimate is its median over examples, so that one example whose trajectory happens to lie off
the slowest direction doesn't decide.
"""

import math
from typing import Any

import torch

from loopscope import analyses
from loopscope.recorder import record
from loopscope.replication import Finding, Paper, Trainings
from loopscope.replication.random_loops import random_loop, random_tokens

finding = Finding(
    number=6,
    claim="log rho = contraction rate = Lyapunov exponent at a fixed point",
    source=Paper("Eckmann & Ruelle", 1985, title="theory"),
    metric="three estimates",
    criterion="agree within 5 %",
    minutes=2,
)

LAYERS, EXAMPLES, LENGTH, ITERATIONS = 4, 8, 6, 64


def measure(seed: int, trained: Trainings) -> dict[str, float]:
    """The three estimates in nats per iteration, and by how much of the largest they differ."""
    model = random_loop(seed, LAYERS).double()
    run = record(model, random_tokens(seed, EXAMPLES, LENGTH), ITERATIONS)
    result: Any = analyses.measure("stability", run, examples=EXAMPLES, seed=seed)
    here = torch.tensor(result.at_fixed_point)
    estimates = {
        "log spectral radius": median(result.radius[here].log()),
        "log contraction rate": median(result.rate[here].log()),
        "Lyapunov exponent": median(result.exponents[:, 0][here]),
    }
    return {**estimates, "share of examples at a fixed point": float(here.double().mean())}


def median(values: torch.Tensor) -> float:
    """The median of the values that are there; NaN without any."""
    present = values[~values.isnan()].double()
    return float(present.quantile(0.5)) if len(present) else math.nan


def holds(numbers: dict[str, float]) -> bool:
    """The three differ by at most 5 % of the largest, and there are fixed points."""
    three = [numbers["log spectral radius"], numbers["log contraction rate"], numbers["Lyapunov exponent"]]
    close = max(three) - min(three) <= 0.05 * max(map(abs, three))
    return close and numbers["share of examples at a fixed point"] > 0
