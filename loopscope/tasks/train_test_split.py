"""The split into training and test examples: a hash of the example, the same on every machine."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

_TEST_SHARE = 8  # one example in eight is for testing


def is_test(parts: Int[Tensor, "batch part"]) -> Bool[Tensor, " batch"]:
    """Which rows are test examples: one in eight, by their hash."""
    return hashed(parts) % _TEST_SHARE == 0


def hashed(parts: Int[Tensor, "batch part"]) -> Int[Tensor, " batch"]:
    """A number in 0..2^32 for each row: FNV-1a over the parts, then MurmurHash3's finaliser.

    Arguments:
        parts: integers in 0..2^32 - 1 that are equal for two rows exactly if the examples are the
            same.
    """
    h = torch.full((len(parts),), 2_166_136_261, dtype=torch.int64)
    for column in parts.cpu().unbind(1):
        h = _times(h ^ column, 16_777_619)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = _times(h ^ (h >> shift), factor)
    return h ^ (h >> 16)


def _times(h: Int[Tensor, " batch"], factor: int) -> Int[Tensor, " batch"]:
    """The product's low 32 bits, which int64 overflow doesn't change."""
    return (h * factor) & 0xFFFFFFFF
