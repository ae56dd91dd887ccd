"""The limits of a block's layers: each layer has a limit of its own, or all share one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.text import number, percent
from loopscope.maths.similarity import cosine_map
from loopscope.recorder.extend import Continuation, sites_in_loop
from loopscope.runs.run import Run

from .layer_values import layer_values

DEGENERACY_THRESHOLD = 0.99
"""Layers share one point if every cosine to the first layer's limit is at least this."""
AT_REST = 1e-3
"""Layers have limits where their outputs change by no more than this part of their norms."""


@dataclass(frozen=True)
class LayerLimits:
    """The limits of a block's layers (Blayney et al. 2026, arXiv 2604.11791)."""

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
    unrolled_iterations: int
    """Iterations in `similarity`."""
    same_layer_fraction: float
    """Fraction of the unrolled layers, after the first iteration, whose most similar other one is
    the same layer of another iteration."""
    threshold: float
    """Layers share one point if every cosine to the first layer's limit is at least this."""

    @property
    def unrolled_names(self) -> list[str]:
        """The names of the rows of `similarity`."""
        layers = range(len(self.names))
        return [f"iteration {t}, layer {layer}" for t in range(self.unrolled_iterations) for layer in layers]

    @property
    def sentence(self) -> str:
        """Whether the layers share one point, how far they still move, and which are similar."""
        residual = number(float(self.residual.max()))
        if len(self.names) == 1:
            return (
                f"The block has one layer; at iteration {self.limit} its output still changes by {residual} "
                "of its norm per iteration."
            )
        layers = f"The block's {len(self.names)} layers"
        if not float(self.residual.max()) <= AT_REST:
            kind = "distinct directions" if self.distinct else "one direction"
            where = (
                f"{layers} haven't come to rest at iteration {self.limit}, where their outputs still change "
                f"by at most {residual} of their norms per iteration. They have {kind} there: the smallest "
                f"cosine to the first layer is {number(self.degeneracy)} (one from {self.threshold:g} on)."
            )
        else:
            kind = "distinct points: a cycle within one iteration"
            kind = kind if self.distinct else "one point (degenerate)"
            where = (
                f"{layers} converge to {kind}: the smallest cosine to the first layer's limit is "
                f"{number(self.degeneracy)} (one point from {self.threshold:g} on); their outputs there "
                f"still change by at most {residual} of their norms per iteration."
            )
        return (
            f"{where} {percent(self.same_layer_fraction)} of the unrolled layers are most similar to the "
            "same layer of another iteration."
        )


def layer_limits(
    run: Run,
    sites: Sequence[str] | None = None,
    extra: int = 64,
    examples: int = 16,
    *,
    unrolled_iterations: int = 8,
    threshold: float = DEGENERACY_THRESHOLD,
    continued: Continuation | None = None,
) -> LayerLimits | None:
    """The limits of a block's layers, and the similarity of all unrolled layers; None if the run
    has no layers, or their values aren't finite.

    Arguments:
        sites: the layers' outputs in their order; None: every `hook_resid_post` in the loop.
        extra: iterations beyond the run, whose last gives the limits.
        examples: how many are used.
        unrolled_iterations: iterations in the map of all unrolled layers.
        threshold: layers share one point if every cosine to the first layer's limit is at least
            this.
        continued: the continued run, which is used if it has the sites.
    """
    names = layer_names(run, sites)
    if not names:
        return None
    values = layer_values(run, names, extra, examples, first=unrolled_iterations, continued=continued)
    x, end = values.begin, values.end
    if not x.numel() or min(len(x), len(end)) < 2 or not (x.isfinite().all() and end.isfinite().all()):
        return None
    cosine = cosine_map(end[-1])
    residual = ((end[-1] - end[-2]).norm(dim=-1) / end[-1].norm(dim=-1).clamp(min=1e-300)).mean(1)
    similarity = cosine_map(x.flatten(0, 1))
    degeneracy = float(cosine[0].min())
    return LayerLimits(
        names=tuple(values.sites),
        cosine=cosine,
        degeneracy=degeneracy,
        distinct=len(values.sites) > 1 and degeneracy < threshold,
        residual=residual,
        limit=values.limit,
        similarity=similarity,
        unrolled_iterations=len(x),
        same_layer_fraction=_same_layer_fraction(similarity, len(values.sites)),
        threshold=threshold,
    )


def layer_names(run: Run, sites: Sequence[str] | None) -> list[str]:
    """The sites of the layers' outputs: these, or every `hook_resid_post` in the loop."""
    return sites_in_loop(run, "hook_resid_post") if sites is None else list(sites)


def _same_layer_fraction(similarity: Tensor, depth: int) -> float:
    """Fraction of unrolled layers after the first iteration whose most similar other one is the
    same layer."""
    rows = similarity.clone().fill_diagonal_(-math.inf)[depth:]
    if not len(rows):
        return math.nan
    index = torch.arange(depth, depth + len(rows), device=rows.device)
    return float(((rows.argmax(1) - index) % depth == 0).double().mean())
