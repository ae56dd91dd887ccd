"""Maps of items against items are computed in blocks: no tensor on the way is much larger than what
is given or what is returned, and the numbers are those of the whole at once."""

import math

import pytest
import torch

from loopscope import maths
from loopscope.maths import similarity
from tests.toys.largest_tensor import Largest


def sets(items: int, samples: int, width: int) -> torch.Tensor:
    return torch.randn(items, samples, width, generator=torch.Generator().manual_seed(0)).double() + 2


def whole_cka(x: torch.Tensor) -> torch.Tensor:
    x = x - x.mean(1, keepdim=True)
    grams = (x @ x.mT).flatten(1)
    products = grams @ grams.T
    norms = products.diagonal().sqrt()
    return products / norms[:, None] / norms


def whole_cosine(x: torch.Tensor) -> torch.Tensor:
    unit = x / x.norm(dim=2, keepdim=True)
    return torch.einsum("isw,jsw->ij", unit, unit) / x.shape[1]


def whole_distance(x: torch.Tensor) -> torch.Tensor:
    return (x[:, None] - x).norm(dim=3).mean(2)


MAPS = {
    "cka": (maths.cka_map, whole_cka),
    "cosine": (maths.cosine_map, whole_cosine),
    "distance": (maths.distance_map, whole_distance),
}
SHAPES = {"more samples": (6, 40, 3), "wider": (9, 7, 20), "many items": (24, 12, 12)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", MAPS)
def test_blocks_give_the_numbers_of_the_whole(name, shape, monkeypatch):
    function, whole = MAPS[name]
    x = sets(*shape)
    for block in (1 << 27, 2000, 1):
        monkeypatch.setattr(similarity, "BLOCK", block)
        assert torch.allclose(function(x), whole(x), rtol=1e-12, atol=1e-13), block


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", MAPS)
def test_no_tensor_is_larger_than_the_given_or_the_returned_one_or_a_block(name, shape, monkeypatch):
    block = 4000
    monkeypatch.setattr(similarity, "BLOCK", block)
    x = sets(*shape)
    with Largest() as largest:
        MAPS[name][0](x)
    least = 8 * shape[0] * max(shape)  # one sample of all items
    assert 0 < largest.bytes <= max(x.nbytes, 8 * shape[0] ** 2, block, least)


def test_a_map_of_many_wide_iterations_takes_little_memory():
    """512 iterations of width 512, as in a run: no (iterations x width)^2 matrix."""
    x = torch.randn(512, 3, 512, generator=torch.Generator().manual_seed(0))
    with Largest() as largest:
        result = maths.cka_map(x)
    assert largest.bytes <= max(8 * math.prod(x.shape[:2]) * 3, 8 * 512**2, x.nbytes)
    assert torch.allclose(result.diagonal(), torch.ones(512, dtype=torch.float64))
