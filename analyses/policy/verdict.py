"""What early exit is worth: the verdict on the methods' held-out examples, and its evidence."""

import math
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from loopscope.common.evidence import Evidence, by_bootstrap, estimate
from loopscope.common.sample_memory import once_per_sample
from loopscope.common.verdict import UNCLEAR, Verdict

from .comparison import Comparison, Stops, choose, compare
from .exit_methods import MODEL

MARGIN, SAVING, MIN_EXAMPLES = 0.01, 0.05, 12
SAVED = "share of iterations saved"
"""What the evidence measures."""
ALLOWED = f"whose accuracy may be {100 * MARGIN:g} point lower"
"""What the reference of a comparison is allowed."""


class PolicyVerdict(Verdict):
    """What early exit is worth."""

    instant = "One iteration is about as accurate as all of them, so there is nothing to decide."
    gate = (
        "The model's own halting, at the best of its thresholds, needs fewer iterations than a fixed depth "
        "of about the same accuracy, and no exit rule needs clearly fewer still."
    )
    reading = (
        "An exit rule needs fewer iterations than the model's own halting, at the best of its thresholds, "
        "with about the same accuracy."
    )
    rule = "An exit rule needs fewer iterations than a fixed depth of about the same accuracy."
    fixed = "A fixed depth is about as accurate as early exit with about as many iterations, or fewer."
    unclear = UNCLEAR


def decide(
    stops: dict[str, Stops], right: Bool[Tensor, "iteration item"], example: Tensor
) -> tuple[Comparison, PolicyVerdict, Evidence]:
    """The methods on held-out examples, the verdict and its evidence."""
    items = sum_by_example(torch.ones(1, right.shape[1]), example)[0]
    k = torch.arange(1, len(right) + 1, dtype=torch.float64)[:, None]
    depth = Stops(k * items, sum_by_example(right, example))
    rules = {name: one for name, one in stops.items() if name != MODEL}
    model = stops.get(MODEL)
    rule_choice = choose(depth, rules, items, margin=MARGIN)
    model_choice = None if model is None else choose(depth, {MODEL: model}, items, margin=MARGIN)

    @once_per_sample
    def of(draw: Int[Tensor, " sample"]) -> Comparison:
        return compare(
            depth, rules, model, items, draw,
            rule_choice=rule_choice, model_choice=model_choice, margin=MARGIN,
        )  # fmt: skip

    count = len(items)
    verdict, evidence = by_bootstrap(
        lambda draw: verdict_on(of(draw)), count, unclear=PolicyVerdict.unclear, least=MIN_EXAMPLES
    )
    estimates = (
        estimate(
            f"{SAVED}, best rule against a fixed depth {ALLOWED}",
            lambda draw: of(draw).rule_over_depth,
            count,
        ),
        estimate(
            f"{SAVED}, model's own halting against a fixed depth {ALLOWED}",
            lambda draw: of(draw).model_over_depth,
            count,
        ),
        estimate(
            f"{SAVED}, best rule against the model's own halting {ALLOWED}",
            lambda draw: of(draw).rule_over_model,
            count,
        ),
    )
    known = tuple(e for e in estimates if e.value == e.value)
    return of(torch.arange(count)), verdict, replace(evidence, estimates=known)


def verdict_on(c: Comparison) -> PolicyVerdict:
    """The verdict on a comparison; unclear where accuracy is unknown."""
    if math.isnan(c.at_once) or math.isnan(c.rule_over_depth):
        return PolicyVerdict.unclear
    if c.at_once >= -MARGIN - 1e-9:
        return PolicyVerdict.instant
    has_model = not math.isnan(c.model_over_depth)
    if max(c.rule_over_depth, c.model_over_depth if has_model else -math.inf) < SAVING:
        return PolicyVerdict.fixed
    if not has_model:
        return PolicyVerdict.rule
    return PolicyVerdict.reading if c.rule_over_model >= SAVING else PolicyVerdict.gate


def sum_by_example(values: Shaped[Tensor, "point item"], example: Tensor) -> Float[Tensor, "point example"]:
    """The sum over the items of each example."""
    index = example.unique(return_inverse=True)[1]
    zeros = torch.zeros(len(values), int(index.max()) + 1, dtype=torch.float64)
    return zeros.index_add(1, index, values.double())
