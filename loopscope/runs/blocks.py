"""Blocks of a site's vectors: some examples, or some positions of one, over all iterations.

What is measured of every example and position by itself is measured block by block, so that no
more of a run than a block is in memory at once. A run whose tensors are mapped from files may then
be larger than the memory.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..core.indexing import as_vectors
from ..core.lazy_values import chosen
from ..core.states import States
from ..maths.precision import spread_between

BLOCK = 48_000_000
"""Bytes of a block, in double precision."""


class Block(NamedTuple):
    """Where a block lies in (batch, position)."""

    rows: slice
    positions: slice

    @property
    def text(self) -> str:
        """Such as "examples 4 to 7" or "example 4, positions 0 to 99"."""
        first, last = self.rows.start, self.rows.stop - 1
        if last > first:
            return f"examples {first} to {last}"
        return f"example {first}, positions {self.positions.start} to {self.positions.stop - 1}"


def blocks_of(states: States, size: int = BLOCK) -> list[Block]:
    """The blocks of a site: as many whole examples as fit into a block, or else parts of one.

    Arguments:
        size: bytes of a block in double precision; one vector at each iteration is the least.
    """
    batch, positions = vector_grid(states)
    vector = 8 * max(1, math.prod(states.shape) // max(1, batch * positions))
    fit = max(1, size // vector)
    if fit >= positions:
        step = max(1, fit // max(1, positions))
        return [Block(slice(a, min(a + step, batch)), slice(0, positions)) for a in range(0, batch, step)]
    return [
        Block(slice(row, row + 1), slice(a, min(a + fit, positions)))
        for row in range(batch)
        for a in range(0, positions, fit)
    ]


def vector_grid(states: States) -> tuple[int, int]:
    """(examples, positions) of a site; 1 where it has no such axis."""
    sizes = dict(zip(states.axes[1:], states.shape[1:], strict=True))
    return sizes.get("batch", 1), sizes.get("position", 1)


def block_values(
    states: States, block: Block, mask: Bool[Tensor, "batch position"], labels: Sequence[int] | None = None
) -> list[Float[Tensor, "vector width"]]:
    """A site's vectors in a block, at each iteration, where the mask is True.

    Arguments:
        labels: the iterations; None: all that are present.
    """
    here = mask[block.rows, block.positions]
    everything = bool(here.all())
    labels = states.iterations if labels is None else labels
    rows = block.rows
    if not states.in_memory and "batch" in states.axes:
        # of a run of many batches only those are read that the block is of
        values = chosen(states.by_index, lambda index: index[0] in labels)
        states, rows = states.with_values(values).at(batch=rows), slice(None)
    result = []
    for k in labels:
        x = as_vectors(states[k].detach(), states.axes[1:])[rows, block.positions]
        result.append(x.flatten(0, 1) if everything else x[here.to(x.device)])
    return result


def spread_of_vectors(
    states: States, k: int, mask: Bool[Tensor, "batch position"], blocks: Sequence[Block]
) -> float:
    """`loopscope.maths.precision.spread_between` of a site's vectors after k iterations."""

    class Parts(Iterable[Tensor]):
        def __iter__(self) -> Iterator[Tensor]:
            return (block_values(states, block, mask, [k])[0] for block in blocks)

    return spread_between(Parts())


def joined(
    parts: Iterable[tuple[Block, Mapping[str, Tensor]]],
    grid: tuple[int, int],
    axes: Mapping[str, tuple[str, ...]],
) -> dict[str, Tensor]:
    """What was computed of blocks, as if it had been of all vectors at once: each part is added at
    its examples and positions, and over the axes that it has none of.

    Arguments:
        grid: (examples, positions) of all blocks.
        axes: by name of a value, the names of its axes, of which "batch" and "position" are the
            block's.
    """
    result: dict[str, Tensor] = {}
    sizes: dict[str, int] = dict(zip(("batch", "position"), grid, strict=True))
    for block, part in parts:
        where = {"batch": block.rows, "position": block.positions}
        for name, value in part.items():
            if name not in result:
                shape = [sizes.get(axis, n) for axis, n in zip(axes[name], value.shape, strict=True)]
                result[name] = torch.zeros(shape, dtype=value.dtype)
            place = tuple(where.get(axis, slice(None)) for axis in axes[name])
            result[name][place] += value.cpu()
    return result
