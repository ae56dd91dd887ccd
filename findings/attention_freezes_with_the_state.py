"""Attention freezes with the state, and its change is bounded by the state's (Blayney et al. 2026,
arXiv 2604.11791, proposition 4.2).

Measured on random loops that settle, as in the paper's study: 4 layers, pre-norm, injection, gain
0.4, eight networks; without rotary positions, which the published bound doesn't cover. Spearman's
correlation is over the iterations, of a layer's mean change of attention and of its normed input,
on average over layers and networks.
"""

import statistics
from typing import Any

import torch
from scipy.stats import spearmanr

from loopscope import analyses
from loopscope.recorder import record
from loopscope.replication import Finding, Measurement, Paper, Trainings
from loopscope.replication.random_loops import random_loop, random_tokens

finding = Finding(
    number=2,
    claim="Attention freezes with the state; bound 1/2*2Bk/sqrt d",
    source=Paper("Blayney et al.", 2026, "2604.11791"),
    metric="violations; Spearman(attention change, state change)",
    criterion="0 violations; rho >= .9",
    minutes=3,
    curve_start=2,
)

LAYERS, NETWORKS = 4, 8
EXAMPLES, LENGTH, ITERATIONS = 8, 16, 24


def measure(seed: int, trained: Trainings) -> Measurement:
    """Violations of the bound, and the rank correlation of the two changes."""
    violations, heads, correlations, curves = 0, 0, [], {}
    for network in range(NETWORKS):
        number = NETWORKS * seed + network
        model, tokens = random_loop(number, LAYERS, position="none"), random_tokens(number, EXAMPLES, LENGTH)
        inputs = [f"core.{layer}.norm_1" for layer in range(LAYERS)]
        run = record(model, tokens, ITERATIONS, sites=[*inputs, "core.*.attn.*", "core.*.hook_resid_post"])
        result: Any = analyses.measure("attention", run, extra=8)
        ratios = torch.stack([bound.max_ratio for bound in result.bounds])
        violations += int((ratios > 1).sum())
        heads += int((~ratios.isnan()).sum())
        for layer, name in enumerate(inputs):
            x = run[name].tensor
            moved = (x[1:] - x[:-1]).norm(dim=(-2, -1)).mean(1)
            turned = result.change[:, layer].mean(1)
            rho: Any = spearmanr(turned, moved)[0]
            correlations.append(float(rho))
            if network == layer == 0:
                curves = {
                    "log10 change of attention": log10(turned),
                    "log10 change of its input": log10(moved),
                }
    numbers = {
        "violations of the bound": float(violations),
        "heads checked": float(heads),
        "Spearman's rho of the two changes": statistics.mean(correlations),
    }
    return Measurement(numbers, curves)


def log10(values: torch.Tensor) -> list[float]:
    """Of a curve that falls by orders of magnitude."""
    return values.double().clamp(min=1e-12).log10().tolist()


def holds(numbers: dict[str, float]) -> bool:
    """No head changes by more than the bound, in none of the iterations."""
    return (
        numbers["violations of the bound"] == 0
        and numbers["heads checked"] > 0
        and numbers["Spearman's rho of the two changes"] >= 0.9
    )
