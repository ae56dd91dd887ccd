"""Fourier measures, on networks that are built to add with known waves."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import loopscope as ls
from loopscope.maths import fourier


def adder(p: int, frequencies: dict[int, float]) -> torch.Tensor:
    """Logits (p, p, p) of a network that adds with these frequencies: sum of amplitude * cos(w_k (a
    + b - c))."""
    n = torch.arange(p, dtype=torch.float64)
    angle = n[:, None, None] + n[None, :, None] - n
    return sum(size * torch.cos(2 * math.pi * k * angle / p) for k, size in frequencies.items())  # type: ignore[return-value]


@pytest.mark.parametrize("p", [7, 12, 59])
def test_the_basis_is_orthonormal(p):
    torch.testing.assert_close(fourier.basis(p) @ fourier.basis(p).T, torch.eye(p, dtype=torch.float64))


@given(st.sets(st.integers(1, 14), min_size=1, max_size=5), st.integers(0, 3))
def test_a_network_built_to_add_with_some_frequencies_has_exactly_these_as_its_key_frequencies(keys, seed):
    sizes = 1 + torch.rand(len(keys), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    logits = adder(29, dict(zip(sorted(keys), sizes.tolist(), strict=True)))
    assert fourier.key_frequencies(logits) == sorted(keys)
    power = fourier.power(logits)
    assert float(power.sums.sum()) == pytest.approx(1) and float(power.single_number.sum()) < 1e-20
    # Of a wave cos(w(a + b - c)) the variance over (a, b) is half the squared amplitude, for each
    # of the p answers.
    assert power.total == pytest.approx(29 * float((sizes**2).sum()) / 2)


def test_restricted_loss_of_a_pure_adder_is_its_loss_and_excluded_loss_that_of_guessing():
    logits = adder(23, {3: 8.0, 7: 5.0})
    answers = (torch.arange(23)[:, None] + torch.arange(23)) % 23
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), answers.flatten()).item()
    train = torch.rand(23, 23, generator=torch.Generator().manual_seed(0)) < 0.5
    assert fourier.restricted_loss(logits, [3, 7]) == pytest.approx(loss)
    assert fourier.excluded_loss(logits, [3, 7], train) == pytest.approx(math.log(23))
    assert fourier.restricted_loss(logits, [3]) > loss
    assert loss < fourier.excluded_loss(logits, [3], train) < math.log(23)  # frequency 7 still answers


def test_a_table_of_remembered_answers_has_no_key_to_lose():
    """Memory adds nothing along the waves of the adder, and drowns it: restricted loss sees through
    it."""
    generator = torch.Generator().manual_seed(1)
    train = torch.rand(23, 23, generator=generator) < 0.5
    answers = (torch.arange(23)[:, None] + torch.arange(23)) % 23
    memory = torch.zeros(23, 23, 23, dtype=torch.float64)
    memory[train, answers[train]] = 60.0  # on the training pairs alone
    other = torch.randint(0, 23, (23, 23), generator=generator)
    memory[~train, other[~train]] = 60.0  # something else is said to all others
    both = memory + adder(23, {5: 6.0})
    told = torch.nn.functional.cross_entropy(both[~train], answers[~train]).item()
    assert told > 20 and fourier.restricted_loss(both, [5]) < 0.6 * math.log(23)
    assert fourier.excluded_loss(both, [5], train) < 1e-3


def test_waves_of_sums_differences_and_single_numbers_are_told_apart():
    p, n = 11, torch.arange(11, dtype=torch.float64)
    a, b = n[:, None], n[None, :]
    wave = lambda x, k: torch.cos(2 * math.pi * k * x / p)[..., None]  # noqa: E731
    for values, where, k in (
        (wave(a + b, 2), "sums", 2),
        (wave(a - b, 3), "differences", 3),
        (wave(a + 0 * b, 4), "single_number", 4),
        (wave(b + 0 * a, 5), "single_number", 5),
    ):
        power = fourier.power(values + 7.0)
        assert float(getattr(power, where)[k - 1]) == pytest.approx(1), where
        assert sum(float(part.sum()) for part in power[:3]) == pytest.approx(1)
    product = fourier.power(wave(a, 2) * wave(b, 2))  # cos x cos y = (cos(x + y) + cos(x - y)) / 2
    assert float(product.sums[1]) == pytest.approx(0.5) and float(product.differences[1]) == pytest.approx(
        0.5
    )


def test_a_constant_has_no_variance_to_share():
    power = fourier.power(torch.full((7, 7, 3), 0.1))
    assert power.total == 0 and all(bool(part.isnan().all()) for part in power[:3])


def test_for_an_even_modulus_no_wave_is_counted_twice():
    p, n = 12, torch.arange(12, dtype=torch.float64)
    total = n[:, None] + n
    for k in range(1, 7):
        power = fourier.power(torch.cos(2 * math.pi * k * total / p)[..., None])
        assert float(power.sums[k - 1] + power.differences[k - 1]) == pytest.approx(1), k


def test_the_gini_coefficient_is_that_of_its_definition():
    assert float(fourier.gini(torch.ones(8))) == pytest.approx(0)
    assert float(fourier.gini(torch.tensor([0.0, 0, 0, 5]))) == pytest.approx(3 / 4)
    values = torch.rand(9, dtype=torch.float64)
    mean_difference = (values[:, None] - values).abs().mean()  # G is half the mean difference over the mean
    assert float(fourier.gini(values)) == pytest.approx(float(mean_difference / values.mean() / 2))


def test_an_embedding_of_one_frequency_is_all_in_two_components():
    p, k = 13, 4
    angles = 2 * math.pi * k * torch.arange(p, dtype=torch.float64) / p
    table = torch.stack([angles.cos(), angles.sin()], 1) @ torch.randn(2, 6, dtype=torch.float64)
    result = fourier.components(table)
    assert float(result.square().sum()) == pytest.approx(float(table.square().sum()))  # Parseval
    assert result.argsort(descending=True)[:2].sort().values.tolist() == [2 * k - 1, 2 * k]
    assert float(fourier.gini(result)) > 0.8


def test_what_cannot_be_measured_is_said():
    with pytest.raises(ls.LoopscopeError, match=r"must have the shape \(p, p, ...\)"):
        fourier.power(torch.zeros(3, 4, 5))
    with pytest.raises(ls.LoopscopeError, match=r"frequency must lie in 1..3"):
        fourier.along_sums(torch.zeros(7, 7, 7), [4])
    with pytest.raises(ls.LoopscopeError, match="aren't negative"):
        fourier.gini(torch.tensor([1.0, -1.0]))
