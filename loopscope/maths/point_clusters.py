"""Clusters of points that lie close together: single linkage."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..common.arguments import NotNegative
from ..common.guard import guarded


@guarded
def cluster(points: Float[Tensor, "point width"], distance: NotNegative) -> Int[Tensor, " point"]:
    """The cluster of each point: 0, 1, 2 ... in order of first appearance; -1 for a point that
    holds NaN.

    >>> cluster(torch.tensor([[0.0], [5.0], [0.1]]), distance=0.2)
    tensor([0, 1, 0])

    Arguments:
        distance: two points are in one cluster when a chain of points joins them whose links are no
            longer than this (single linkage, Euclidean).
    """
    from scipy.sparse.csgraph import connected_components

    finite = points.isfinite().all(1)
    labels = torch.full((len(points),), -1, dtype=torch.int64)
    if finite.any():
        kept = points[finite].double()
        near = torch.cdist(kept, kept, compute_mode="donot_use_mm_for_euclid_dist") <= distance
        _, numbers = connected_components(near.cpu().numpy(), directed=False)
        labels[finite.cpu()] = torch.from_numpy(numbers).long()  # scipy numbers them in order of appearance
    return labels
