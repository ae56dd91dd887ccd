"""The budget law: a loop trained to solve n positions in T iterations solves n / T positions in
each, and n / v iterations suffice (arXiv 2607.20594).

Five contracts of one layer with recall and outer norm on prefix parity of 12 bits: T / n from 1/3
to 3/2, at every length of the curriculum. A position is solved from the first iteration on from
which its answer stays right; the speed v is one over the slope of the median of these over the
positions. The exponent is that of v in n / T, over the contracts.
"""

import math
import statistics
from dataclasses import replace

import torch
from scipy.stats import linregress

from loopscope.replication import Finding, Measurement, Paper, Trainings
from loopscope.training import Full, PerLength, Recipe, accuracy, recipe_of

finding = Finding(
    number=27,
    claim="Budget law: positions solved per loop v ~ n_train/T_train; T* = ceil(n/v) suffices",
    source=Paper("", 2026, "2607.20594"),
    metric="slope of median first-right iteration; log-log slope over 5 contracts",
    criterion="exponent .8-1.2, R2 >= .95; stop rule >= 99 % of full accuracy",
    minutes=40,
    fresh_only=True,
)

LENGTH, MOST, SCORED = 12, 36, 1000
CONTRACTS = {"1/3": 1 / 3, "1/2": 1 / 2, "2/3": 2 / 3, "1": 1.0, "3/2": 1.5}
"""T / n, by its name."""


def trainings() -> dict[str, Recipe]:
    """The recipe of recall-outer with a depth that is so many times the length, and the gradient
    through all iterations."""
    outer = recipe_of("recall-outer")
    return {
        name: replace(outer, depth=PerLength(ratio, ratio), gradient=Full())
        for name, ratio in CONTRACTS.items()
    }


def measure(seed: int, trained: Trainings) -> Measurement:
    """Speeds, their power law, and what the stop rule keeps of the full accuracy."""
    speeds, kept, curves = {}, [], {}
    for name in CONTRACTS:
        result = accuracy(trained(name), iterations=MOST, size=SCORED, seed=seed)
        right = result.correctness >= 1
        first = MOST + 1 - right.flip(0).cumprod(0).sum(0)  # (batch, position): MOST + 1 if never
        medians = [
            float(first[:, p][result.mask[:, p]].double().quantile(0.5))
            for p in range(first.shape[1])
            if bool(result.mask[:, p].any())
        ]
        curves[f"median first right iteration, T/n = {name}"] = medians
        slope = slope_of(medians)
        speeds[name] = 1 / slope if slope > 0 else math.inf
        stop = min(MOST, math.ceil(LENGTH / speeds[name])) if slope > 0 else 1
        kept.append(float(result.positions[stop] / result.positions[-1]))
    x = [math.log(1 / ratio) for ratio in CONTRACTS.values()]
    y = [math.log(v) for v in speeds.values()]
    exponent, r = power_law(x, y)
    numbers = {
        "exponent": exponent,
        "R2": r**2,
        "least share of the full accuracy at the stop": min(kept),
        "mean share of the full accuracy at the stop": statistics.mean(kept),
        **{f"speed, T/n = {name}": v for name, v in speeds.items()},
    }
    return Measurement(numbers, curves, "position")


def slope_of(medians: list[float]) -> float:
    """Iterations per position, by least squares."""
    fit = torch.linalg.lstsq(
        torch.stack([torch.arange(len(medians)).double(), torch.ones(len(medians)).double()], 1),
        torch.tensor(medians).double()[:, None],
    )
    return float(fit.solution[0])


def power_law(x: list[float], y: list[float]) -> tuple[float, float]:
    """The slope of y over x and their correlation; NaN where a speed is infinite."""
    if not all(map(math.isfinite, y)):
        return math.nan, math.nan
    fit = linregress(x, y)
    return float(fit.slope), float(fit.rvalue)  # pyright: ignore[reportAttributeAccessIssue]


def holds(numbers: dict[str, float]) -> bool:
    """A power law of exponent one, and a stop that loses nothing in any contract."""
    return (
        0.8 <= numbers["exponent"] <= 1.2
        and numbers["R2"] >= 0.95
        and numbers["least share of the full accuracy at the stop"] >= 0.99
    )
