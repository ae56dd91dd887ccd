"""What the convergence of a site is computed from: sums over the examples, over the positions, and
numbers of single positions. Each is computed block by block, so no copy of the states is made."""

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.core.states import States
from loopscope.maths.late_motion import late_motion_of
from loopscope.maths.precision import resolution
from loopscope.maths.trajectory_sizes import TrajectorySizes, trajectory_sizes
from loopscope.runs.blocks import Block, block_values, joined, spread_of_vectors, vector_grid
from loopscope.runs.chunked import chosen_blocks, map_blocks


class Span(NamedTuple):
    """Indices of states, from 0 for the first that is there."""

    end: int
    """The last of the result."""
    limit: int
    last: int
    """The last by which it is judged where the states go."""


class SiteSums(NamedTuple):
    """Sums over the examples whose position counts, unless the axis `batch` is there; over the
    positions, unless the axis `position` is."""

    used: Bool[Tensor, "batch position"]
    """Which positions count and are finite."""
    step: Float[Tensor, "iteration position"]
    relative: Float[Tensor, "iteration position"]
    """Of the step over the norm."""
    of_range: Float[Tensor, "iteration position"]
    """Of the step over the range, the largest distance to the limit."""
    distance: Float[Tensor, "state position"]
    """To the limit."""
    cosine: Float[Tensor, "state position"]
    norm: Float[Tensor, " state"]
    square: Float[Tensor, "state position"]
    """Of the squared distance."""
    square_by_example: Float[Tensor, "state batch"]
    limit_norm: Float[Tensor, "batch position"]
    """Squared, of the limit."""
    limit_step: Float[Tensor, "batch position"]
    """Squared, of the iteration after the limit."""
    residual: Float[Tensor, "batch position"]
    """That step over the norm."""
    settled: Float[Tensor, "iteration position"]
    within: Int[Tensor, " batch"]
    """How many positions have settled by the end."""
    motion: Int[Tensor, "batch position"]
    """1 + the number of the late motion; 0 where a position doesn't count."""


_AXES: dict[str, tuple[str, ...]] = {
    "used": ("batch", "position"),
    **dict.fromkeys(("step", "relative", "of_range", "settled"), ("iteration", "position")),
    **dict.fromkeys(("distance", "cosine", "square"), ("state", "position")),
    "norm": ("state",),
    "square_by_example": ("state", "batch"),
    **dict.fromkeys(("limit_norm", "limit_step", "residual", "motion"), ("batch", "position")),
    "within": ("batch",),
}


class _Question(NamedTuple):
    """What is asked of every block."""

    span: Span
    tolerance: float
    eps: float
    across: float
    """The spread between all last states."""
    overflowing: bool
    """Whether positions that overflow count, with NaN."""


def site_sums(states: States, span: Span, tolerance: float, mask: Bool[Tensor, "batch position"]) -> SiteSums:
    """The sums of a site. Positions that overflow are left out, unless all do.

    Arguments:
        tolerance: relative step, of norm and range, below which a position has settled.
    """
    blocks, first = chosen_blocks(states), states.iterations[0]
    across = spread_of_vectors(states, first + span.last, mask, blocks)
    question = _Question(span, tolerance, resolution(states[first].dtype), across, overflowing=False)

    def read(block: Block) -> tuple[list[Tensor], Tensor]:
        return block_values(states, block, mask), mask[block.rows, block.positions]

    def sums(question: _Question) -> SiteSums:
        parts = map_blocks(partial(_block_sums, question), read, blocks)
        return SiteSums(**joined(((b, part._asdict()) for b, part in parts), vector_grid(states), _AXES))

    result = sums(question)
    return result if bool(result.used.any()) else sums(question._replace(overflowing=True))


def _block_sums(question: _Question, content: tuple[list[Tensor], Tensor]) -> SiteSums:
    """The sums of one block."""
    values, mask = content
    span, (n, m, last) = question.span, question.span
    sizes = trajectory_sizes(values, last=last, target=m)
    motions = late_motion_of(sizes.until(last + 1), question.tolerance, question.eps, question.across)
    sizes = _with_nan(sizes) if question.overflowing else sizes
    fine = ~sizes.bad.any(0) | question.overflowing

    def grid(x: Tensor) -> Tensor:
        """(..., batch, position) of numbers of each vector, 0 where a position doesn't count."""
        result = torch.zeros((*x.shape[:-1], *mask.shape), dtype=x.dtype)
        result[..., mask] = x.cpu()
        return result

    def total(x: Tensor, axis: int = -2) -> Tensor:
        return grid(torch.where(fine, x, 0)).sum(axis)

    norm, step, distance = sizes.norm, sizes.step, sizes.distance[: m + 1]
    relative = torch.where(step == 0, 0, step / norm[1:])
    of_range = torch.where(step == 0, 0, step / distance.amax(0))
    square, settled = distance.square(), motions.settled
    ends = (norm[m].square(), step[m].square(), relative_to(step[m], norm[m]))
    limit_norm, limit_step, residual = (grid(torch.where(fine, x, 0)) for x in ends)
    return SiteSums(
        used=grid(fine),
        step=total(step[: m + 1]),
        relative=total(relative[:n]),
        of_range=total(of_range[: m + 1]),
        distance=total(distance[: n + 1]),
        cosine=total(sizes.cosine[: n + 1]),
        norm=total(norm[: n + 1]).sum(-1),
        square=total(square),
        square_by_example=total(square, axis=-1),
        limit_norm=limit_norm,
        limit_step=limit_step,
        residual=residual,
        settled=grid(settled[:n].double()).sum(-2),
        within=grid(settled[span.end - 1].long()).sum(-1),
        motion=grid(motions.code + 1),
    )


def relative_to(step: Tensor, norm: Tensor) -> Tensor:
    """A step over a norm; 0 for no step."""
    return torch.where(step == 0, 0, step / norm)


def _with_nan(sizes: TrajectorySizes) -> TrajectorySizes:
    """With NaN for the numbers of states that aren't finite."""
    bad = sizes.bad
    at_states = {
        name: getattr(sizes, name).masked_fill(bad, torch.nan) for name in ("norm", "distance", "cosine")
    }
    return sizes._replace(step=sizes.step.masked_fill(bad[1:] | bad[:-1], torch.nan), **at_states)
