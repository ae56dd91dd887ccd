"""Steps that lead to a point are told from those that never end, by how they shrink."""

import math

import pytest
import torch

from loopscope.maths.step_decay import step_decay

K = torch.arange(48, 96, dtype=torch.float64)


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.99, 0.995, 0.999])
def test_steps_of_a_constant_rate_lead_to_a_point_and_say_how_far_it_is(rate: float):
    decay = step_decay(rate ** K[:, None])
    assert bool(decay.ends) and not bool(decay.endless)
    assert float(decay.low) <= rate <= float(decay.high) + 1e-12 and float(decay.high) < 1
    assert float(decay.rate) == pytest.approx(rate, rel=1e-6)
    ahead = rate ** float(K[-1] + 1) / (1 - rate)
    assert float(decay.left) == pytest.approx(ahead, rel=0.02)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("constant", torch.ones_like(K)),
        ("growing", 1.01**K),
        ("as 1 / k", 1 / K),
        ("as 1 / sqrt(k)", K**-0.5),
        ("to a floor that is as large", 0.95**K / 0.95**95 + 1),
        ("an orbit that is hardly begun", (0.02 * (K - 40)).cos().abs()),
        ("noise", torch.rand(48, generator=torch.Generator().manual_seed(0)).double()),
        (
            "slowing noise",
            (1 + 0.5 * torch.rand(48, generator=torch.Generator().manual_seed(0)).double()) / K,
        ),
    ],
)
def test_steps_of_which_no_end_is_in_sight_lead_nowhere(name: str, steps: torch.Tensor):
    decay = step_decay(steps[:, None])
    assert not bool(decay.ends), name
    assert bool(decay.endless) == (name in ("as 1 / k", "as 1 / sqrt(k)"))


def test_of_a_power_whose_sum_is_only_just_finite_nothing_is_said():
    decay = step_decay(K[:, None] ** -2)
    assert not bool(decay.ends) and not bool(decay.endless)


def test_some_noise_widens_the_interval_and_much_hides_the_end():
    noise = torch.randn(48, 1, generator=torch.Generator().manual_seed(1)).double()
    rates = [step_decay(0.95 ** K[:, None] * (size * noise).exp()) for size in (0.0, 0.03, 1.0)]
    assert [bool(rate.ends) for rate in rates] == [True, True, False]
    widths = [float(rate.high - rate.low) for rate in rates]
    assert widths[0] < widths[1] < widths[2]
    assert float(rates[1].low) < 0.95 < float(rates[1].high)
    assert math.isinf(float(rates[2].left)) or float(rates[2].high) < 1


def test_too_few_steps_say_nothing():
    decay = step_decay(0.5 ** torch.arange(4, dtype=torch.float64)[:, None])
    assert not bool(decay.ends) and not bool(decay.endless) and math.isnan(float(decay.rate))
