"""Arrays of trajectories as tensors (iteration, row, width): their checks, and a
projection of wide ones to fewer directions."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.errors import LoopscopeError

MAX_WIDTH = 16
"""Wider states are projected to this many random directions, which keeps every period and angle."""


def trajectories(states: Any) -> tuple[Tensor, tuple[int, ...]]:
    """(an array of trajectories as a tensor (iteration, row, width), the shape (...) of its rows).

    Arguments:
        states: (iteration, ..., width), or (iteration,) for numbers; any real dtype, a tensor or an
            array.

    Raises:
        LoopscopeError: other shapes, complex numbers or booleans.
    """
    x = torch.as_tensor(states).detach()
    if x.is_complex() or x.dtype == torch.bool or x.ndim == 0 or not x.numel():
        raise LoopscopeError(
            "trajectories must be real numbers of the shape (iteration, ..., width), but they are "
            f"{tuple(x.shape)} of {x.dtype}. Stack the states along the first axis."
        )
    x = x if x.is_floating_point() else x.double()
    x = x[:, None] if x.ndim == 1 else x
    shape = tuple(x.shape[1:-1])
    return x.reshape(x.shape[0], math.prod(shape), x.shape[-1]), shape


def random_projection(x: Float[Tensor, "row iteration width"]) -> Float[Tensor, "row iteration narrow"]:
    """Trajectories wider than MAX_WIDTH in that many random orthonormal directions, the same for
    all; narrower ones as they are.

    A rotation keeps its angle in almost every projection.
    """
    width = x.shape[-1]
    if width <= MAX_WIDTH:
        return x
    generator = torch.Generator().manual_seed(width)
    directions = torch.linalg.qr(torch.randn(width, MAX_WIDTH, generator=generator, dtype=torch.float64)).Q
    return x @ directions.to(x)
