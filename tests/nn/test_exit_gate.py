"""Exit distributions, their divergences and the quantile exit, each against an enumeration of all
that can happen."""

import itertools
import math

import pytest
import torch

from loopscope.halting.halting_record import exit_halting, exit_weights
from loopscope.maths import output_signals
from loopscope.training.exit_losses import divergence

CHANCES = torch.tensor([0.1, 0.35, 0.2, 0.8, 0.5], dtype=torch.float64)


def enumerated(chances):
    """The chance of each ending: a coin for every iteration, all outcomes of all coins; the last
    iteration always ends it."""
    n, result = len(chances), [0.0] * len(chances)
    for coins in itertools.product((True, False), repeat=n):
        weight = math.prod(
            float(c) if heads else 1 - float(c) for heads, c in zip(coins, chances, strict=True)
        )
        result[coins.index(True) if True in coins else n - 1] += weight
    return result


def test_the_chance_of_each_exit_is_that_of_all_tosses_of_its_coins():
    assert exit_weights(CHANCES).tolist() == pytest.approx(enumerated(CHANCES))
    assert float(exit_weights(CHANCES).sum()) == pytest.approx(1)


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.4, 0.41, 0.5, 0.6, 0.9, 0.999])
def test_the_quantile_exit_is_the_first_iteration_whose_summed_chance_reaches_it(threshold):
    tossed = [1 - math.prod(1 - float(c) for c in CHANCES[: n + 1]) for n in range(len(CHANCES))]
    expected = next((n for n, total in enumerate(tossed) if total >= threshold), None)
    result = exit_halting(CHANCES[:, None, None], threshold)
    assert bool(result.halted) == (expected is not None)
    assert int(result.iteration) == (len(CHANCES) - 1 if expected is None else expected)
    assert float(result.remainder) == pytest.approx(enumerated(CHANCES)[int(result.iteration)])
    assert float(result.cost) == pytest.approx(int(result.iteration) + 1 + float(result.remainder))


@pytest.mark.parametrize("prior", [0.2, 0.5, 0.9])
def test_the_price_of_pondering_is_the_divergence_from_the_geometric_prior_and_not_to_it(prior):
    p = enumerated(CHANCES)
    g = [prior * (1 - prior) ** k for k in range(len(p))]
    g = [value / sum(g) for value in g]
    forward = sum(a * math.log(a / b) for a, b in zip(p, g, strict=True))
    reverse = sum(b * math.log(b / a) for a, b in zip(p, g, strict=True))
    result = float(divergence(exit_weights(CHANCES)[:, None, None], prior))
    assert result == pytest.approx(forward) and result != pytest.approx(reverse, rel=1e-3)
    logs = [torch.tensor(x, dtype=torch.float64).log() for x in (p, g)]
    assert float(output_signals.kl_divergence(*logs)) == pytest.approx(forward)
    assert float(output_signals.kl_divergence(*logs[::-1])) == pytest.approx(reverse)


def test_from_the_uniform_prior_it_is_what_the_entropy_lacks():
    p = enumerated(CHANCES)
    entropy = -sum(a * math.log(a) for a in p)
    assert float(divergence(exit_weights(CHANCES)[:, None, None], None)) == pytest.approx(
        math.log(len(p)) - entropy
    )
