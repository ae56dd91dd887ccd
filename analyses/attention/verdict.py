"""Whether attention converges: example by example, and on all of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.common.evidence import (
    NEARLY_ALL,
    Evidence,
    by_examples,
    mean_estimate,
    share_estimate,
    share_interval,
    with_unseen,
)
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.maths.precision import motion_scale, rounding

TOLERANCE = 0.01
"""A pattern has converged when its relative change stays below this."""
SETTLED_FRACTION = 0.95
"""Attention converges in an example if this fraction of the heads has converged."""
_OF_RANGE = 10.0
"""Changes may be so many times as large a part of the range that a pattern covers as of its norm,
of which most is constant."""
_TAIL = 3
"""A pattern has converged if so many of its last changes are below the tolerance."""


class AttentionVerdict(Verdict):
    """Whether attention converges."""

    settled = "Attention converges: the pattern of nearly every head stops changing within the run."
    late = "Attention converges, but some patterns stop changing only after the iterations of the run."
    partly = "Attention converges in part: the patterns of some heads stop changing, others keep changing."
    moving = (
        "Attention doesn't converge within the iterations measured: the patterns of all heads keep changing."
    )
    mixed = "The examples differ: in some attention converges, in others patterns keep changing."
    unresolved = (
        "The precision of the patterns can't tell whether attention converges: what is below the tolerance "
        "is below rounding too."
    )
    unclear = UNCLEAR


class Settling(NamedTuple):
    """When the patterns of each example come to rest."""

    rests: Bool[Tensor, "iteration layer example head"]
    """Whether all changes from that iteration on are below the tolerance."""
    undecided: Bool[Tensor, "layer example head"]
    """Whether the last changes are rounding that is too large to tell."""
    relative: Float[Tensor, "iteration layer head"]
    """The changes over the patterns' norms, on average over examples."""

    @property
    def converged(self) -> Bool[Tensor, "layer example head"]:
        """Whether the last three changes of a pattern are below the tolerance; both, of two."""
        return self.rests[-_TAIL:].all(0)

    @property
    def first(self) -> Float[Tensor, "layer head"]:
        """The median over examples of the first iteration from which on a pattern rests; NaN where
        it doesn't converge in half of them."""
        first = torch.where(self.converged, (~self.rests).sum(0) + 1.0, math.inf)
        median = first.quantile(0.5, dim=1, interpolation="higher")
        return torch.where(median.isinf(), math.nan, median)


def settling(
    x: Float[Tensor, "iteration layer example head query key"], tolerance: float, eps: float
) -> Settling:
    """When patterns come to rest.

    Arguments:
        eps: machine epsilon of the patterns as they were recorded.
    """
    norm = x.norm(dim=(-2, -1)).clamp(min=1e-30)
    change = (x[1:] - x[:-1]).norm(dim=(-2, -1))
    range = (x - x[-1]).norm(dim=(-2, -1)).amax(0)
    scale = motion_scale(norm[1:], _OF_RANGE * range)
    relative = torch.where(change == 0, change, change / scale)
    still = (relative < tolerance) | (change <= rounding(norm[1:], eps))
    rests = still.flip(0).cummin(0).values.flip(0)  # from t on, to the end
    moved = torch.where(range > rounding(norm[-1], eps), scale[-1], norm[-1])
    can_tell = rounding(norm[-1], eps) <= tolerance * moved
    return Settling(rests & can_tell, rests[-1] & ~can_tell, (change / norm[1:]).mean(2))


def attention_verdict(
    parts: Settling, iterations: int, settled_fraction: float
) -> tuple[AttentionVerdict, Evidence]:
    """The verdict on all examples, and its evidence.

    Arguments:
        iterations: of the run; the others are beyond it.
    """
    verdicts = [_of_example(parts, b, iterations, settled_fraction) for b in range(parts.rests.shape[2])]
    verdict, evidence = overall(verdicts)
    share = parts.converged.double().mean((0, 2))
    converges = sum(v in (AttentionVerdict.settled, AttentionVerdict.late) for v in verdicts)
    estimates = (
        with_unseen(
            mean_estimate("fraction of heads whose pattern converges, mean over examples", share),
            len(verdicts),
        ),
        share_estimate(
            "fraction of examples in which attention converges, within the run or after it",
            converges,
            len(verdicts),
        ),
    )
    return verdict, replace(evidence, estimates=estimates)


def overall(verdicts: Sequence[AttentionVerdict]) -> tuple[AttentionVerdict, Evidence]:
    """The verdict on examples that have these: first whether attention converges, then how soon, or
    in how many heads."""
    v = AttentionVerdict
    kinds: dict[AttentionVerdict, tuple[AttentionVerdict, ...]] = {
        v.late: (v.settled, v.late),
        v.partly: (v.moving, v.partly),
    }
    merged = list(verdicts)
    for kind, members in kinds.items():
        present = [one for one in verdicts if one in members]
        if not present:
            continue
        if len(present) == len(verdicts):  # they agree on the first question
            verdict, evidence = by_examples(verdicts, mixed=kind, unclear=v.unclear)
            if set(evidence.alternatives) == {kind}:  # nearly all, or some: it is the same verdict
                return kind, replace(evidence, alternatives=())
            return verdict, evidence
        same = present[0] if len(set(present)) == 1 else kind
        merged = [same if one in members else one for one in merged]
    verdict, evidence = by_examples(merged, mixed=v.mixed, unclear=v.unclear, unresolved=v.unresolved)
    counted = by_examples(verdicts, mixed=v.mixed, unclear=v.unclear)[1]
    alternatives = [one for kept in evidence.alternatives for one in _allowed(v[kept.name], verdicts, kinds)]
    return verdict, replace(counted, alternatives=tuple(alternatives))


def _allowed(
    verdict: AttentionVerdict,
    verdicts: Sequence[AttentionVerdict],
    kinds: Mapping[AttentionVerdict, tuple[AttentionVerdict, ...]],
) -> list[AttentionVerdict]:
    """The verdicts that one about all of a kind may stand for: the first member of the kind too, if
    nearly all examples may have that."""
    first = kinds.get(verdict, (verdict,))[0]
    share = share_interval(verdicts.count(first), len(verdicts))[1]
    return [first, verdict] if first is not verdict and share >= NEARLY_ALL else [verdict]


def _of_example(parts: Settling, b: int, iterations: int, settled_fraction: float) -> AttentionVerdict:
    converged = parts.converged[:, b]
    at_end = parts.rests[max(0, min(iterations, len(parts.rests)) - 2), :, b] & converged
    end = float(converged.double().mean())
    known = _amount(end, settled_fraction)
    if known is not _amount(end + float(parts.undecided[:, b].double().mean()), settled_fraction):
        return AttentionVerdict.unresolved
    late = known is AttentionVerdict.settled and float(at_end.double().mean()) < settled_fraction
    return AttentionVerdict.late if late else known


def _amount(settled: float, settled_fraction: float) -> AttentionVerdict:
    if settled >= settled_fraction:
        return AttentionVerdict.settled
    return AttentionVerdict.partly if settled > 0 else AttentionVerdict.moving
