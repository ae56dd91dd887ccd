"""Steer: add a direction to a site, with a length that is asked for or a coefficient."""

from typing import Any

import torch
from torch import Tensor

from ..common.arguments import Finite, Positive
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..core.sites import Sites
from .edit_values import copied_value
from .edits import Edit
from .selectors import Where


@guarded
def steer(
    direction: Any,
    *,
    norm: Positive | None = None,
    coefficient: Finite | None = None,
    site: Sites = "state",
    iteration: Where = None,
    **where: Any,
) -> Edit:
    """Add a direction to a site's activation, with a norm or a coefficient, over a window of
    iterations and positions, and of tokens while a model generates.

    >>> direction = run.states[8].mean((0, 1)) - other.states[8].mean((0, 1))
    >>> push = ls.steer(direction, norm=4, iteration=slice(2, 6), position=-1)
    >>> ls.record(model, tokens, edits=[push])
    >>> late = ls.steer(direction, coefficient=0.5, iteration=3, token=slice(5, None))
    >>> ls.generate(wrapped, tokens, edits=[late], max_new_tokens=8)

    The vector is added at each iteration of the window, so that over m iterations m vectors go in.
    A coefficient of 0 changes no bit.

    Arguments:
        direction: a vector (width,), or several (..., width) that fit the selected part of the
            site as a value of `patch` does.
        norm: the Euclidean norm of what is added, above 0: each vector of the direction, along its
            last axis, gets this length. One rounding to the site's dtype follows.
        coefficient: what the direction is multiplied by; its own length is kept.
        site, iteration, where: as for `patch`. `token=` is for `generate` and `recording` alone.

    Raises:
        LoopscopeError: norm and coefficient are both given or both left out, or the direction is
            no vector, isn't finite, or has a vector of zeros, which has no norm to set. When
            recorded: as for `patch`.

    Source: activation addition, Turner et al. 2023 (arXiv 2308.10248).
    """
    if (norm is None) == (coefficient is None):
        many = "neither" if norm is None else "both"
        raise LoopscopeError(
            f"steer needs a norm or a coefficient, and not two of them, but got {many}. Pass norm=4 for the "
            "length of what is added, or coefficient=0.5 for a multiple of the direction."
        )
    vector = _vector(direction)
    if coefficient is not None:
        vector = vector * float(coefficient)
    else:
        lengths = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
        if bool((lengths == 0).any()):
            raise LoopscopeError(
                "steer needs a direction that isn't zero to give it a norm, but got a vector of zeros. "
                "Choose another direction, or use coefficient=."
            )
        vector = vector / lengths * norm
    # x + 0.0 turns -0.0 into 0.0, and x + (-0.0) is x bit for bit.
    return Edit(site, "add", torch.where(vector == 0, -0.0, vector), iteration, where)


def _vector(direction: Any) -> Tensor:
    """The direction as 64-bit numbers, whose norm doesn't overflow where the site's dtype would."""
    value = copied_value(direction)
    if not isinstance(value, Tensor) or value.ndim == 0 or value.shape[-1] < 2 or value.is_complex():
        kind = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else "several tensors"
        raise LoopscopeError(
            f"steer needs a direction of real numbers (width,) or (..., width), but got {kind}. Take a "
            "difference of two states, or use ls.add for a number."
        )
    if not bool(value.isfinite().all()):
        raise LoopscopeError(
            "steer needs a direction of finite numbers, but it holds NaN or infinity. Take it where every "
            "value is present."
        )
    return value.cpu().double()  # an edit moves to its site; not every device has 64 bits
