"""The leading directions are those of the singular value decomposition."""

import pytest
import torch

from loopscope.maths.leading_directions import leading_directions

RATES = torch.tensor([5.0, 3.0, 1.0, 0.5, 0.2, 0.1], dtype=torch.float64)


def vectors(rows: int, width: int) -> torch.Tensor:
    """Random ones whose directions differ in size."""
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(rows, 6, generator=generator, dtype=torch.float64)
    x = left * RATES @ torch.randn(6, width, generator=generator, dtype=torch.float64)
    return x - x.mean(0)


@pytest.mark.parametrize("shape", [(40, 7), (8, 50)])
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e200])
def test_they_are_those_of_the_decomposition(shape, scale):
    x = vectors(*shape)
    _, every, expected = torch.linalg.svd(x, full_matrices=False)
    found, sizes = leading_directions(scale * x, 3)
    assert torch.allclose((found @ expected[:3].T).abs(), torch.eye(3, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(sizes / scale, every[:3])
    assert (found.gather(1, found.abs().argmax(1, keepdim=True)) > 0).all()


def test_a_small_direction_beside_a_large_one_is_as_exact():
    x = torch.zeros(20, 5, dtype=torch.float64)
    x[:, 0], x[::2, 3] = torch.arange(20) - 9.5, 1e-10
    found, _ = leading_directions(x - x.mean(0), 2)
    assert float(found[1, 3]) == pytest.approx(1, abs=1e-4)


def test_there_are_no_more_than_the_vectors_have():
    line = torch.arange(4.0)[:, None] * torch.tensor([[3.0, 4.0]])
    found, sizes = leading_directions(line - line.mean(0), 2)
    assert torch.allclose(found[0], torch.tensor([0.6, 0.8], dtype=torch.float64))
    assert float(sizes[0]) == pytest.approx(125**0.5) and float(sizes[1:].sum()) < 1e-6
    assert leading_directions(torch.zeros(3, 4), 2)[0].shape == (0, 4)
