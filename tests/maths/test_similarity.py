"""Similarity, dimension and recurrence: their invariances and known values."""

import math

import pytest
import torch
from torch import Tensor

from loopscope import maths
from loopscope.common.errors import LoopscopeError

DOUBLE = torch.float64


def cloud(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def rotation(width: int, seed: int = 1) -> Tensor:
    return torch.linalg.qr(cloud(width, width, seed=seed)).Q


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x @ rotation(6),
        lambda x: 3.7 * x,
        lambda x: x + 5,
        lambda x: -x,
        lambda x: torch.cat([x, 0 * x], 1),
    ],
)
def test_cka_ignores_rotation_scale_and_shift(change):
    x = cloud(50, 6)
    assert float(maths.cka(x, change(x))) == pytest.approx(1)


def test_cka_sees_what_is_stretched_and_what_is_unrelated():
    x, y = cloud(400, 6), cloud(400, 6, seed=2)
    assert float(maths.cka(x, x @ torch.diag(torch.tensor([9.0, 1, 1, 1, 1, 1], dtype=DOUBLE)))) < 0.8
    assert float(maths.cka(x, y)) < 0.05
    assert float(maths.cka(x, y)) == pytest.approx(float(maths.cka(y, x)))
    assert maths.cka(x, torch.ones(400, 3)).isnan()


@pytest.mark.parametrize("shape", [(4, 30, 5), (4, 5, 30)])
def test_the_map_is_cka_of_each_pair(shape):
    x = cloud(*shape)
    result = maths.cka_map(x)
    expected = torch.stack([torch.stack([maths.cka(a, b) for b in x]) for a in x])
    assert torch.allclose(result, expected)


def test_cosine_and_distance_maps_are_means_over_samples():
    x = cloud(3, 7, 4)
    cosine, distance = maths.cosine_map(x), maths.distance_map(x)
    for i in range(3):
        for j in range(3):
            expected = torch.nn.functional.cosine_similarity(x[i], x[j], dim=1).mean()
            assert float(cosine[i, j]) == pytest.approx(float(expected))
            assert float(distance[i, j]) == pytest.approx(float((x[i] - x[j]).norm(dim=1).mean()))
    assert float(maths.cosine_map(torch.zeros(2, 3, 4)).abs().max()) == 0


@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_an_isotropic_cloud_of_n_directions_has_dimension_n(n):
    axes = torch.eye(n, dtype=DOUBLE)
    x = torch.cat([axes, -axes]) @ rotation(20)[:n]
    assert float(maths.participation_ratio(x)) == pytest.approx(n)
    assert float(maths.effective_rank(x)) == pytest.approx(n)


def test_a_line_has_dimension_one_and_a_point_none():
    line = cloud(30, 1) * cloud(1, 8, seed=3) + 4
    assert float(maths.participation_ratio(line)) == pytest.approx(1)
    assert float(maths.effective_rank(line)) == pytest.approx(1, abs=1e-6)
    assert maths.participation_ratio(torch.zeros(5, 3)).isnan()


def test_unequal_directions_count_by_the_formulas():
    axes = torch.diag(torch.tensor([2.0, 1.0, 1.0], dtype=DOUBLE))  # variances 4 : 1 : 1
    x = torch.cat([axes, -axes])
    assert float(maths.participation_ratio(x)) == pytest.approx(36 / 18)
    p = torch.tensor([4 / 6, 1 / 6, 1 / 6])
    assert float(maths.effective_rank(x)) == pytest.approx(float(torch.exp(-(p * p.log()).sum())), rel=1e-6)
    assert float(maths.participation_ratio(x + 7)) == pytest.approx(2)
    assert maths.participation_ratio(torch.stack([x, 3 * x])).tolist() == pytest.approx([2, 2])


def test_recurrence_of_a_cycle_is_its_diagonals():
    x = cloud(5, 3)[torch.arange(40) % 5]
    result = maths.recurrence(x, threshold=0.05)
    k = torch.arange(40)
    assert torch.equal(result.recurs, (k[:, None] - k) % 5 == 0)
    assert float(result.determinism) == 1
    assert float(result.rate) == pytest.approx(40 * 7 / (40 * 39))


def test_noise_recurs_by_chance_and_a_point_always():
    x = cloud(80, 3)
    result = maths.recurrence(x, threshold=0.3)
    assert float(result.determinism) < 0.2
    assert torch.allclose(result.distance, result.distance.T)
    assert float(maths.recurrence(torch.ones(10, 2)).rate) == 1
    many = maths.recurrence(torch.stack([x, 2 * x], dim=1), threshold=0.3)
    assert torch.allclose(many.distance[0], many.distance[1])
    assert many.distance.shape == (2, 80, 80)


def test_recurrence_needs_states_and_a_threshold():
    with pytest.raises(LoopscopeError, match="3 states or more and a threshold above 0"):
        maths.recurrence(torch.ones(2, 2))
    with pytest.raises(LoopscopeError, match="Try 0.1"):
        maths.recurrence(torch.ones(9, 2), threshold=0.0)


# Attention as numbers


def sink(length: int) -> Tensor:
    return torch.eye(length, dtype=DOUBLE)[:1].expand(length, length)


def uniform(length: int) -> Tensor:
    return torch.full((length, length), 1 / length, dtype=DOUBLE)


@pytest.mark.parametrize("length", [2, 8, 32, 100])
def test_concentration_is_one_for_a_sink_and_zero_for_uniform(length):
    assert float(maths.concentration(sink(length))) == pytest.approx(1)
    assert float(maths.concentration(uniform(length))) == pytest.approx(0, abs=1e-12)
    assert float(maths.concentration(torch.eye(length, dtype=DOUBLE))) == pytest.approx(0, abs=1e-12)


def test_a_causal_mask_alone_concentrates():
    assert float(maths.concentration(maths.causal(32))) == pytest.approx(0.112, abs=5e-4)
    assert float(maths.concentration(maths.causal(1))) == 1


def test_mixing_is_the_entropy_of_a_row():
    assert float(maths.mixing(uniform(16))) == pytest.approx(math.log(16))
    assert float(maths.mixing(sink(16))) == 0
    expected = sum(math.log(i) for i in range(1, 9)) / 8
    assert float(maths.mixing(maths.causal(8))) == pytest.approx(expected)


def test_sinks_are_counted_by_head():
    heads = torch.stack([sink(10), uniform(10), 0.35 * sink(10) + 0.65 * uniform(10)])
    assert float(maths.sink_rate(heads)) == pytest.approx(2 / 3)
    assert float(maths.sink_rate(heads, threshold=0.9)) == pytest.approx(1 / 3)
    assert float(maths.sink_rate(heads, key=3)) == 0
    assert maths.received(heads).sum(-1).tolist() == pytest.approx([1] * 3)


def test_residual_entropy_counts_directions():
    assert float(maths.residual_entropy(torch.eye(5))) == pytest.approx(math.log(5))
    assert float(maths.residual_entropy(cloud(6, 1) * cloud(1, 4))) == pytest.approx(0, abs=1e-9)
    x = cloud(6, 4)
    eigenvalues = torch.linalg.eigvalsh(x @ x.T / (x @ x.T).trace()).clamp(min=0)
    assert float(maths.residual_entropy(x)) == pytest.approx(float(torch.special.entr(eigenvalues).sum()))
    assert float(maths.residual_entropy(100 * x @ rotation(4))) == pytest.approx(
        float(maths.residual_entropy(x))
    )
