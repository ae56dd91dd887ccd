"""Massive activations: numbers in the state, or in a layer's output, that are orders of magnitude
larger than the others."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.text import number
from loopscope.recorder.extend import Continuation, vectors
from loopscope.runs.run_mask import mask_at

MASSIVE_RATIO, MASSIVE_SIZE = 1000.0, 100.0
"""As in Sun et al. 2024 (arXiv 2402.17762)."""


@dataclass(frozen=True)
class MassiveActivation:
    """The most massive activation of one site."""

    site: str
    first: int
    """The first k (of a state) or iteration (of another site) that has a massive activation."""
    position: int
    dimension: int
    value: float
    """Its largest magnitude."""
    ratio: float
    """That over the median magnitude at the same iteration."""


def massive_activations(
    continued: Continuation, blocks: Sequence[str | None], ratio: float, size: float
) -> tuple[MassiveActivation, ...]:
    """The most massive activation of the state, and of each block's output, that has one."""
    sites = ["state", *(f"{block}.hook_resid_post" for block in blocks if block is not None)]
    result = []
    for site in sites:
        if site not in continued.run:
            continue
        x = vectors(continued.run[site], last=continued.last).abs().float()
        mask = mask_at(continued.run, continued.run[site]).to(x.device)
        x = torch.where(mask[..., None], x, 0)
        median = x[:, mask].flatten(1).median(1).values
        massive = (x > size) & (x > ratio * median[:, None, None, None])
        if not bool(massive.any()):
            continue
        index = int(massive.flatten(1).any(1).int().argmax())
        peak = int(torch.where(massive, x, 0).argmax())
        t, _, position, dimension = (int(i) for i in torch.unravel_index(torch.tensor(peak), x.shape))
        value = float(x.flatten()[peak])
        first = index + continued.run[site].iterations[0]
        result.append(MassiveActivation(site, first, position, dimension, value, value / float(median[t])))
    return tuple(result)


def largest_ratio(continued: Continuation) -> Float[Tensor, " state"]:
    """The largest magnitude in the state over its median, by k."""
    x = vectors(continued.run.states, last=continued.last).abs().float()
    x = x[:, mask_at(continued.run, continued.run.states).to(x.device)].flatten(1)
    return x.max(1).values / x.median(1).values.clamp(min=1e-30)


def massive_sentence(
    activations: Sequence[MassiveActivation], largest: float, *, ratio: float, size: float
) -> str:
    """The massive activations in words.

    Arguments:
        largest: the largest ratio in the state, for where there are none.
    """
    criterion = f"(above {size:g} and {ratio:g} times the median)"
    if not activations:
        return (
            f"No massive activations {criterion}: the largest in the state is {number(largest)} times the "
            "median."
        )
    parts = [
        f"{one.site} at position {one.position}, dimension {one.dimension}, from {one.first} on: "
        f"{number(one.value)}, {number(one.ratio)} times the median"
        for one in activations
    ]
    return f"Massive activations {criterion}: {'; '.join(parts)}."
