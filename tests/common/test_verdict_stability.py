"""Where what is measured lies near a threshold, verdicts on other examples are unclear: they don't
flip."""

from math import comb

import pytest
import torch
from scipy.stats import binom

from loopscope.common.evidence import by_bootstrap, by_examples
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.reports.repeated_verdicts import BATCHES, holds


class Fate(Verdict):
    rest = "It comes to rest."
    moving = "It goes on moving."
    mixed = "The examples differ."
    unclear = UNCLEAR


def of_count(k: int, n: int) -> Fate:
    return by_examples([Fate.rest] * k + [Fate.moving] * (n - k), mixed=Fate.mixed, unclear=Fate.unclear)[0]


def chance_to_break(share: float, n: int) -> float:
    """The exact probability that ten batches of n examples break the law, where examples come to
    rest with this probability."""
    chance = dict.fromkeys(Fate, 0.0)
    for k in range(n + 1):
        chance[of_count(k, n)] += float(binom.pmf(k, n, share))
    a, b, c = chance[Fate.rest], chance[Fate.mixed] + chance[Fate.moving], chance[Fate.unclear]
    held = 0.0
    for x in range(BATCHES + 1):
        for y in range(BATCHES + 1 - x):
            z = BATCHES - x - y
            if holds(["rest"] * x + ["mixed"] * y + ["unclear"] * z):
                held += comb(BATCHES, x) * comb(BATCHES - x, y) * a**x * b**y * c**z
    return 1 - held


@pytest.mark.parametrize(("n", "most"), [(12, 0.1), (24, 0.01), (64, 0.001)])
def test_no_share_of_examples_makes_their_verdict_flip_from_batch_to_batch(n: int, most: float):
    """12 examples are few: at the worst share, 0.83, ten batches break the law in 9 % of cases."""
    assert max(chance_to_break(share / 100, n) for share in range(50, 101, 1)) <= most


@pytest.mark.parametrize("share", [0.5, 0.55])
def test_a_statistic_at_its_threshold_is_unclear_on_most_batches(share: float):
    """The share of right answers, of which more than half is a verdict: of 64 examples it lies above
    or below it by chance."""
    verdicts = []
    for seed in range(60):
        right = (torch.rand(64, generator=torch.Generator().manual_seed(seed)) < share).double()
        verdict, evidence = by_bootstrap(
            lambda draw, right=right: Fate.rest if float(right[draw].mean()) > 0.5 else Fate.moving,
            64,
            unclear=Fate.unclear,
        )
        verdicts.append(verdict)
        if verdict is Fate.unclear:
            assert set(evidence.alternatives) == {Fate.rest, Fate.moving}
    batches = [verdicts[i : i + BATCHES] for i in range(0, len(verdicts), BATCHES)]
    assert all(holds([v.name for v in ten]) for ten in batches)
    assert 2 * verdicts.count(Fate.unclear) > len(verdicts)
