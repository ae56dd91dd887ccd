"""The verdict of activation patching: what the state halfway through the loop brings of the donor's
answer, and whether other examples could change that."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from loopscope.common.evidence import LEVEL, Evidence, by_bootstrap
from loopscope.common.text import percent, plural
from loopscope.common.verdict import UNCLEAR, Verdict

FULL, MOST, NO_EFFECT, THIRD = 0.9, 0.7, 0.05, 0.5
"""A state determines the answer from the first on, a position carries it alone from the second
on, and below the third a patch has no effect. From the fourth on most answers are a third one."""


class CausesVerdict(Verdict):
    """Where the answer is carried, halfway through the loop."""

    gathered = (
        "Halfway through the loop the state determines the answer, and a single position carries at least "
        f"{percent(MOST)} of it: patching that position alone changes the answer."
    )
    spread = (
        "Halfway through the loop the state as a whole determines the answer, but no single position carries "
        f"{percent(MOST)} of it."
    )
    partly = (
        "A state patched in halfway through the loop brings part of the other example's answer; the "
        "later iterations undo the rest."
    )
    continued = (
        "A state patched in halfway through the loop mostly gives an answer that neither example has: the "
        "later iterations go on from it, with the input of their own example."
    )
    forgotten = (
        "The loop forgets its state: another example's state, patched in halfway, has no effect on the "
        "answer, which depends on what later iterations read from the input."
    )
    nothing = (
        "No state carries the answer: patching has no effect after any number of iterations, even before the "
        "read-out."
    )
    unclear = UNCLEAR


def verdict_of(whole: float, best: float, largest: float, third: float = 0.0) -> CausesVerdict:
    """The verdict of normalised effects (0 none, 1 the donor's answer).

    Arguments:
        whole: of the whole state halfway through the loop.
        best: of the best single position there.
        largest: of the whole state, after the number of iterations where it is largest.
        third: the fraction of answers that become one that neither example has, by the whole state
            halfway through the loop or by its best position, whichever is larger.
    """
    if math.isnan(whole) or math.isnan(best):
        return CausesVerdict.unclear
    if whole >= FULL and best >= MOST:
        return CausesVerdict.gathered
    if third >= THIRD:
        return CausesVerdict.continued
    if whole >= FULL:
        return CausesVerdict.spread
    if max(whole, best) >= NO_EFFECT:
        return CausesVerdict.partly
    return CausesVerdict.forgotten if largest >= NO_EFFECT else CausesVerdict.nothing


def unseen(examples: int) -> float:
    """The share of examples that may behave unlike all of this many, at 95 % (one-sided): the exact
    bound 1 - 0.05^(1 / n), which is about 3 / n for many (the rule of three)."""
    return 1 - (1 - LEVEL) ** (1 / examples)


def decide(
    statistics: Callable[[Tensor], tuple[float, ...]], examples: int, *, only_state: bool = False
) -> tuple[CausesVerdict, Evidence]:
    """The verdict on all examples and its evidence: a bootstrap over examples, and the exact bound
    `unseen`, as a bootstrap of effects that are all 0, or all 1, knows of no other.

    Arguments:
        statistics: the arguments of `verdict_of`, of the examples with these indices.
        only_state: whether the input reaches the answer through the state alone. The whole state
            then has its whole effect in unseen examples too.
    """
    every = statistics(torch.arange(examples))
    if math.isnan(every[0]) or math.isnan(every[1]):
        how = "The effect halfway through the loop is unknown: no example has one that is finite."
        return CausesVerdict.unclear, Evidence(examples, {"unclear": 1.0}, how)
    verdict, evidence = by_bootstrap(
        lambda draw: verdict_of(*statistics(draw)), examples, unclear=CausesVerdict.unclear
    )
    if verdict is CausesVerdict.unclear:
        return verdict, evidence
    share = unseen(examples)
    whole = every[0]

    def with_unseen(effect: float) -> CausesVerdict:
        mixed = [value * (1 - share) + effect * share for value in every]
        return verdict_of(whole if only_state else mixed[0], *mixed[1:])

    low, high = with_unseen(0.0), with_unseen(1.0)
    if {low, high} == {verdict}:
        return verdict, evidence
    how = (
        f"{plural(examples, 'example')} {'are' if examples > 1 else 'is'} too few: up to {percent(share)} of "
        f"all examples may behave unlike any of these (exact 95 % bound, 1 - 0.05^(1 / {examples})), of "
        "which a bootstrap knows nothing."
    )
    allowed = [one for one in dict.fromkeys((low, high)) if one is not verdict]
    return CausesVerdict.unclear, replace(evidence, alternatives=(verdict, *allowed), how=how)
