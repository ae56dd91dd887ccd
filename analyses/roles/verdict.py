"""The verdict: is each state needed, by the solved examples that are lost with it frozen?"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from loopscope.common.evidence import Evidence, by_bootstrap, share_estimate
from loopscope.common.text import plural
from loopscope.common.verdict import UNCLEAR, Verdict

LOSS, LEAST = 0.5, 6
"""`LEAST`: if all or none of 6 solved examples are lost, at least half of all others are, or are
not, at 95 % (two-sided)."""


class RolesVerdict(Verdict):
    """What is lost with each of the states frozen."""

    both = "Every state is needed: with any of them frozen, most solved examples are lost."
    one = "Not every state is needed: most solved examples are lost with one frozen, but not with another."
    none = "No single state is needed: with any one frozen, most solved examples are still solved."
    unknown = "Too few examples are solved to measure a loss."
    unclear = UNCLEAR


def verdict_of(kept: Bool[Tensor, "field example"]) -> RolesVerdict:
    """The verdict of which solved examples are still solved, with each state frozen."""
    needed = kept.double().mean(1) <= LOSS
    if bool(needed.all()):
        return RolesVerdict.both
    return RolesVerdict.one if bool(needed.any()) else RolesVerdict.none


def decide(kept: Mapping[str, Bool[Tensor, " example"]]) -> tuple[RolesVerdict, Evidence]:
    """The verdict and its evidence, by a bootstrap over solved examples.

    Arguments:
        kept: by name of a state, which of the examples that are solved with nothing frozen are
            still solved with it frozen.
    """
    table = torch.stack(list(kept.values()))
    solved = table.shape[1]
    if solved < LEAST:
        how = f"A loss needs {LEAST} solved examples or more to be measured, but there {_are(solved)}."
        return RolesVerdict.unknown, Evidence(solved, {"unknown": 1.0}, how)
    verdict, evidence = by_bootstrap(
        lambda rows: verdict_of(table[:, rows]), solved, unclear=RolesVerdict.unclear
    )
    estimates = tuple(
        share_estimate(f"solved examples still solved with {field} frozen", int(one.sum()), solved)
        for field, one in kept.items()
    )
    return verdict, replace(evidence, estimates=estimates)


def _are(count: int) -> str:
    return f"{'is' if count == 1 else 'are'} {plural(count, 'solved example')}"
