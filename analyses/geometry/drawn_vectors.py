"""DrawnVectors: some vectors of each state of a run, read one state at a time."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopscope.core.indexing import as_vectors
from loopscope.core.states import States
from loopscope.runs.blocks import BLOCK, block_values, blocks_of, vector_grid
from loopscope.runs.spilled import LARGE, spilled


class DrawnVectors(Sequence[Tensor]):
    """`vectors[i]`: those of the i-th state, (vector, width) in double precision.

    Of a run in memory they are taken from its values each time. Of values that are mapped from
    files they are read once, and are in temporary files where they would fill the memory.
    """

    def __init__(self, states: States, places: Int[Tensor, "vector axis"]) -> None:
        """
        Arguments:
            places: example and position of each vector, in their order.
        """
        self._states, self._places, self._labels = states, places, states.iterations
        self._device = states[self._labels[0]].device if states.in_memory else torch.device("cpu")
        self._read = None if states.in_memory else _read(states, places)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: Any) -> Any:
        if self._read is not None:
            return self._read[index].double()
        x = as_vectors(self._states[self._labels[index]].detach(), self._states.axes[1:])
        rows, positions = self._places.to(x.device).T
        return x[rows, positions].to(self._device).double()

    def mean(self) -> Float[Tensor, " width"]:
        """Of all vectors of all states."""
        return torch.stack([x.mean(0) for x in self]).mean(0)


def _read(states: States, places: Int[Tensor, "vector axis"]) -> list[Float[Tensor, "vector width"]]:
    """The vectors of each state, in the precision of the recording."""
    drawn = torch.zeros(vector_grid(states), dtype=torch.bool)
    drawn[tuple(places.T)] = True
    # of one state at a time a block is in memory
    blocks = [
        block
        for block in blocks_of(states, BLOCK * len(states.iterations))
        if bool(drawn[block.rows, block.positions].any())
    ]
    result: list[Tensor] = []
    total = 0
    for k in states.iterations:
        vectors = torch.cat([block_values(states, block, drawn, [k])[0].cpu() for block in blocks])
        total += vectors.nbytes
        result.append(spilled(vectors) if total > LARGE else vectors)
    return result
