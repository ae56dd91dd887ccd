"""The largest singular value of a map's Jacobian: how much one iteration can stretch a small
difference."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..common.arguments import Seed
from ..common.guard import guarded
from .dense_eigenvalues import DENSE
from .jacobian import Linearisation, Map, linearised_rows
from .linear_operator import jacobian_operator, operator_norm, to_numpy


@guarded
def singular_value(
    map: Map, state: Tensor, *, row_by_row: bool = False, seed: Seed = 0
) -> Float[Tensor, "..."]:
    """The largest singular value of the Jacobian at `state`: the largest factor by which one
    iteration stretches a small difference.

    >>> singular_value(lambda x: x @ torch.tensor([[0.5, 2.0], [0.0, 0.5]]), torch.zeros(1, 2))
    tensor([2.1180], dtype=torch.float64)

    (batch,), or a number for a state without a batch; NaN where it can't be found.

    Arguments:
        state: (batch, ...).
        row_by_row: pass one row at a time to the map, as in `spectrum`.
        seed: of the vector that the search starts from.
    """
    rows = linearised_rows(map, state, row_by_row)
    values = torch.tensor([row_singular_value(linear, b, seed) for linear, b in rows], dtype=torch.float64)
    return values if state.ndim > 1 else values[0]


def row_singular_value(linear: Linearisation, b: int, seed: int = 0) -> float:
    """The largest singular value of row b's Jacobian, of a map that is linearised already; see
    `singular_value`."""
    if linear.size > DENSE:
        return operator_norm(jacobian_operator(linear, b), seed)
    J = to_numpy(linear.dense()[b])
    return float(np.linalg.norm(J, 2)) if np.isfinite(J).all() else float("nan")
