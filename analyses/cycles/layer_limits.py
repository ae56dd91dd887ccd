"""The layers of a loop's block: each has a limit of its own, or all share one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.text import number, percent
from loopscope.maths.similarity import cosine_map
from loopscope.recorder.extend import Continuation, continue_run, sites_in_loop, vectors
from loopscope.recorder.unroll_inner_loops import unroll_inner_loops
from loopscope.runs.run import Run


@dataclass(frozen=True)
class Layers:
    """The limits of the block's layers."""

    names: tuple[str, ...]
    """Sites, in the order of the block."""
    cosine: Float[Tensor, "layer layer"]
    """Cosine of the layers' limits, mean over positions."""
    degeneracy: float
    """min over l of cos(X*[1], X*[l]): 1 where all layers share one point."""
    distinct: bool
    """Whether that is below the threshold."""
    residual: Float[Tensor, " layer"]
    """‖X[l,t] - X[l,t-1]‖ / ‖X[l,t]‖ where the limits are taken, mean over positions."""
    limit: int
    """The iteration of the limits."""
    similarity: Float[Tensor, "unrolled unrolled"]
    """Cosine of all unrolled layers (iteration after iteration, layer after layer), mean over
    positions."""
    shown: int
    """Iterations in `similarity`."""
    nearest: float
    """Fraction of the unrolled layers, after the first iteration, nearest to the same layer of
    another iteration."""
    threshold: float

    @property
    def unrolled(self) -> list[str]:
        """What the rows of `similarity` are."""
        return [
            f"iteration {t}, layer {layer}" for t in range(self.shown) for layer in range(len(self.names))
        ]

    @property
    def sentence(self) -> str:
        moves = number(float(self.residual.max()))
        if len(self.names) == 1:
            return f"The block has one layer; at iteration {self.limit} it still moves by {moves} of its norm per iteration."
        kind = "distinct points: a cycle within the loop" if self.distinct else "one point (degenerate)"
        return (
            f"Its {len(self.names)} layers end at {kind}: the least cosine to the first layer's limit is "
            f"{number(self.degeneracy)} (one point from {self.threshold:g}); there they still move by at "
            f"most {moves} of their norms per iteration. {percent(self.nearest)} of the unrolled layers are "
            "nearest to the same layer of another iteration."
        )


def layers(
    run: Run,
    sites: Sequence[str] | None = None,
    extra: int = 64,
    examples: int = 16,
    *,
    shown: int = 8,
    one_point: float = 0.99,
    after: Continuation | None = None,
) -> Layers | None:
    """The limits of a block's layers, and how alike all unrolled layers are; None if there are none
    to see.

    Arguments:
        sites: the layers' outputs in their order; None: every `hook_resid_post` in the loop.
        extra: iterations beyond the run, whose last gives the limits.
        examples: how many are followed.
        shown: iterations in the map of all unrolled layers.
        one_point: layers share one point if every cosine to the first's limit is at least this.
        after: the run continued already, which is used if it has the sites.
    """
    names = sites_in_loop(run, "hook_resid_post") if sites is None else list(sites)
    if not names:
        return None
    if after is None or any(name not in after.run for name in names):
        after = continue_run(run, extra, names, examples)
    after, names = unroll_inner_loops(after, names)
    values = [vectors(after.run[name])[:, :examples] for name in names]
    count = min(len(value) for value in values)
    x = (
        torch.stack([value[:count] for value in values], dim=1).double().flatten(2, 3)
    )  # (t, layer, sample, width)
    if not x.isfinite().all() or count < 2:
        return None
    cosine = cosine_map(x[-1])
    residual = ((x[-1] - x[-2]).norm(dim=-1) / x[-1].norm(dim=-1).clamp(min=1e-300)).mean(1)
    shown = min(shown, count)
    unrolled = cosine_map(x[:shown].flatten(0, 1))
    degeneracy = float(cosine[0].min())
    return Layers(
        names=tuple(names),
        cosine=cosine,
        degeneracy=degeneracy,
        distinct=len(names) > 1 and degeneracy < one_point,
        residual=residual,
        limit=after.run[names[0]].iterations[-1],
        similarity=unrolled,
        shown=shown,
        nearest=_nearest(unrolled, len(names)),
        threshold=one_point,
    )


def _nearest(similarity: Tensor, depth: int) -> float:
    """Fraction of unrolled layers after the first iteration whose most similar other one is the
    same layer."""
    s = similarity.clone().fill_diagonal_(-math.inf)[depth:]
    if not len(s):
        return math.nan
    here = torch.arange(depth, depth + len(s), device=s.device)
    return float(((s.argmax(1) - here) % depth == 0).double().mean())
