"""The positions of a run that count in its pooled numbers, and a site's values there.
`loopscope.core.counted` has the rule."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.counted import Counted, SpecialTokens, counted_positions
from ..core.indexing import as_vectors
from ..core.states import States

if TYPE_CHECKING:
    from .run import Run


def counted_of(run: "Run") -> Counted:
    """What counts in a run by its inputs and tokens."""
    named = run.origin.get("special_tokens") or {}
    special = SpecialTokens(named.get("pad"), named.get("begin"), tuple(named.get("ends") or ()))
    return counted_positions(run.tokens, run.inputs, special, sequence_shape(run))


def sequence_shape(run: "Run") -> tuple[int, int]:
    """(batch, position) of what the run read: of its tokens, or else of its states."""
    if isinstance(run.tokens, Tensor) and run.tokens.ndim >= 2 and not _is_one_vector(run):
        return run.tokens.shape[0], run.tokens.shape[1]
    states = run.states
    sizes = dict(zip(states.axes[1:], states.shape[1:], strict=True))
    return sizes.get("batch", 1), sizes.get("position", 1)


def mask_at(run: "Run", states: States) -> Bool[Tensor, "batch position"]:
    """Which of a site's vectors count.

    Positions that stand before those of the tokens, such as registers, count in every example that
    counts somewhere. So do all positions of a site that has fewer than the tokens, and the one of a
    site without positions.
    """
    sizes = dict(zip(states.axes[1:], states.shape[1:], strict=True))
    if "position" not in sizes:
        return mask_of(run, sizes.get("batch", len(run.mask)), 0)
    return mask_of(run, sizes.get("batch", len(run.mask)), sizes["position"])


def mask_of(run: "Run", batch: int, positions: int) -> Bool[Tensor, "batch position"]:
    """Which positions count of values with so many examples and positions, as `mask_at` says."""
    if batch != len(run.mask):
        return torch.ones(batch, max(1, positions), dtype=torch.bool)
    return with_more_positions(run.mask, positions)


def with_more_positions(mask: Bool[Tensor, "batch position"], positions: int) -> Bool[Tensor, "batch more"]:
    """A mask for values with so many positions: those before the tokens count where something does;
    of fewer positions all do."""
    rows = mask.any(1, keepdim=True)
    if positions < mask.shape[1]:
        return rows.expand(len(mask), max(1, positions))
    return torch.cat([rows.expand(len(mask), positions - mask.shape[1]), mask], 1)


def counted_vectors(
    run: "Run", states: States, k: int, mask: Bool[Tensor, "batch position"] | None = None
) -> Float[Tensor, "vector width"]:
    """A site's value at an iteration as one vector for each position that counts.

    Arguments:
        mask: which count; None: those of the run.
    """
    x = as_vectors(states[k].detach(), states.axes[1:])
    return x[(mask_at(run, states) if mask is None else mask).to(x.device)]


def require_counted(run: "Run") -> None:
    """Raise LoopscopeError if no position of a run counts."""
    if not bool(run.mask.any()):
        raise LoopscopeError(
            f"some position must count to be measured, but none does ({run.counted.source}). Say which do: "
            "mask=, a tensor of bools (batch, position)."
        )


def rows_that_count(run: "Run") -> list[int]:
    """The examples that have a position that counts, by number."""
    return run.mask.any(1).nonzero()[:, 0].tolist()


def _is_one_vector(run: "Run") -> bool:
    """Whether the states have no positions although the tokens have two axes: (batch, width)."""
    return "state" in run and "position" not in run.states.axes
