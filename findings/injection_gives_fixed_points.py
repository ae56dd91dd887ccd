"""Random loops: with injection they reach fixed points; pre-norm without it slides off in one
direction, which all layers share (Blayney et al. 2026, arXiv 2604.11791).

As in the paper: blocks of 4, 12 and 16 layers without prelude or coda, here of width 32, with
weights of standard deviation gain / sqrt(width), gain 0.4 (the paper doesn't state its own). Four
networks of each depth, two sequences of eight tokens each, 32 iterations and 64 more.
"""

import statistics
from typing import Any

from loopscope import analyses
from loopscope.recorder import record
from loopscope.replication import Finding, Paper, Trainings
from loopscope.replication.random_loops import random_loop, random_tokens

finding = Finding(
    number=1,
    claim="Random loops: injection gives fixed points, pre-norm without it slides to ONE direction",
    source=Paper("Blayney et al.", 2026, "2604.11791"),
    metric="rel. step at end; min cos between layers' limits",
    criterion="pre+inj share settled >= .9 at gain .4; pre no inj degeneracy >= .999, settled 0",
    minutes=6,
)

DEPTHS, NETWORKS, EXAMPLES, LENGTH = (4, 12, 16), 4, 2, 8
ITERATIONS, EXTRA = 32, 64


def measure(seed: int, trained: Trainings) -> dict[str, float]:
    """Shares of settled trajectories, and the least cosine between layers' limits."""
    injected = [limits(seed, True, layers, n) for layers in DEPTHS for n in range(NETWORKS)]
    without = [limits(seed, False, layers, n) for layers in DEPTHS for n in range(NETWORKS)]
    return {
        "share settled, injection": statistics.mean(share for share, _, _ in injected),
        "relative step at the end, injection": statistics.median(step for _, step, _ in injected),
        "share settled, no injection": statistics.mean(share for share, _, _ in without),
        "least cosine between layers' limits, no injection": min(cosine for _, _, cosine in without),
        "least cosine between layers' limits, injection": min(cosine for _, _, cosine in injected),
    }


def limits(seed: int, injection: bool, layers: int, network: int) -> tuple[float, float, float]:
    """Of one network: the share of trajectories at a fixed point, the relative step at the end, and
    the least cosine of a layer's limit to the first one's."""
    number = NETWORKS * seed + network
    model = random_loop(number, layers, injection=injection)
    tokens = random_tokens(number, EXAMPLES, LENGTH)
    run = record(model, tokens, ITERATIONS, sites=["core.*.hook_resid_post"])
    result: Any = analyses.measure("cycles", run, extra=EXTRA)
    return result.shares["fixed_point"], float(result.layers.residual[-1]), result.layers.degeneracy


def holds(numbers: dict[str, float]) -> bool:
    """Nine of ten settle with injection; without it none, and all layers share one direction."""
    return (
        numbers["share settled, injection"] >= 0.9
        and numbers["least cosine between layers' limits, no injection"] >= 0.999
        and numbers["share settled, no injection"] == 0
    )
