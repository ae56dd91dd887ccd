"""The verdict: does an intervention affect neighbours first, and does its effect move on?"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.evidence import Estimate, Evidence, by_bootstrap, estimate
from loopscope.common.verdict import UNCLEAR, Verdict

from .sums import EffectSums, Spread

LOCAL, GROWTH, SHARE, LITTLE, LEAST = 1.25, 1.25, 1e-3, 0.05, 4
"""`SHARE`: an effect on others counts from this share of the whole effect on. `LITTLE`: where it
never has this share, others are hardly affected. `LEAST`: examples for a verdict."""


class LocalityVerdict(Verdict):
    """How the effect of an intervention spreads."""

    relayed = (
        "At first an intervention affects neighbours more than an even spread over all other positions "
        "would; in later iterations its effect lies at more distant positions."
    )
    local = (
        "An intervention affects neighbours more than an even spread over all other positions would, and its "
        "effect doesn't move away from them."
    )
    everywhere = "At first an intervention affects near and distant positions alike."
    distant = (
        "At first an intervention affects neighbours less than an even spread over all other positions would."
    )
    little = (
        "An intervention hardly affects other positions: nearly all of its effect stays where it was made."
    )
    contained = "An intervention affects no other position's answer."
    unresolved = "The effect on other positions is no more than rounding, so it can't be told from none."
    unclear = UNCLEAR


def affected_at(distance: Float[Tensor, " after"], self_share: Float[Tensor, " after"]) -> list[int]:
    """The m at which others are affected, from the fields of `Spread`."""
    return (torch.isfinite(distance) & (1 - self_share > SHARE)).nonzero()[:, 0].tolist()


def verdict_of(spread: Spread, *, hidden: bool = False) -> LocalityVerdict:
    """The verdict on where the effect falls.

    Arguments:
        hidden: whether rounding could hide an effect on others.
    """
    if not spread.is_finite:
        return LocalityVerdict.unclear
    present = affected_at(spread.distance, spread.self_share)
    if not present:
        return LocalityVerdict.unresolved if hidden else LocalityVerdict.contained
    if float((1 - spread.self_share[present]).max()) < LITTLE:
        return LocalityVerdict.little
    first = present[0]
    locality = float(spread.locality[first])
    if locality != locality:  # no neighbour can be reached
        return LocalityVerdict.unclear
    if locality <= 1 / LOCAL:
        return LocalityVerdict.distant
    if locality < LOCAL:
        return LocalityVerdict.everywhere
    farthest = max(float(spread.distance[i]) for i in present)
    relayed = farthest >= GROWTH * float(spread.distance[first])
    return LocalityVerdict.relayed if relayed else LocalityVerdict.local


def decide(sums: EffectSums, *, hidden: bool) -> tuple[LocalityVerdict, Evidence]:
    """The verdict on all examples and its evidence, by a bootstrap over examples."""
    examples = sums.whole.shape[1]
    verdict, evidence = by_bootstrap(
        lambda rows: verdict_of(sums.spread(rows), hidden=hidden),
        examples,
        unclear=LocalityVerdict.unclear,
        least=LEAST,
    )
    return verdict, replace(evidence, estimates=_estimates(sums))


def _estimates(sums: EffectSums) -> tuple[Estimate, ...]:
    """The largest share of the effect on others, the effect on neighbours at the first m that
    affects others, and the distance there and at the last; none where nothing is affected."""
    whole = sums.spread()
    present = affected_at(whole.distance, whole.self_share)
    if not present:
        return ()
    first, last = present[0], present[-1]
    largest = min(present, key=lambda m: float(whole.self_share[m]))
    relative = "effect on neighbours over that of a uniform effect"
    return (
        estimate(
            f"share of the effect on other positions, largest (m = {largest})",
            lambda rows: 1 - float(sums.spread(rows).self_share[largest]),
            sums.whole.shape[1],
        ),
        interval_of(sums, "locality", first, f"{relative}, m = {first}"),
        *(
            interval_of(sums, "distance", m, f"mean distance of the effect on others, m = {m}")
            for m in dict.fromkeys((first, last))
        ),
    )


def interval_of(sums: EffectSums, quantity: str, m: int, name: str = "") -> Estimate:
    """A quantity of `Spread` after m iterations, with its 95 % interval over examples."""
    return estimate(name, lambda rows: float(getattr(sums.spread(rows), quantity)[m]), sums.whole.shape[1])
