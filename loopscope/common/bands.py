"""Bands: the 95 % interval of a mean over examples, at every point of a curve."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .evidence import LEVEL, RESAMPLES, resample


def mean_band(
    values: Float[Tensor, "*axes item"],
    example: Int[Tensor, " item"] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Float[Tensor, "*axes"], Float[Tensor, "*axes"]]:
    """Lower and upper end of the interval of a mean over items: percentiles over bootstrap samples
    of the examples (Efron 1979), all items of an example together. NaN for fewer than two examples.

    Arguments:
        values: NaN is left out.
        example: to which example each item belongs, any numbers; None: each is one of its own.
    """
    known = ~values.isnan()
    if example is None:
        example = torch.arange(values.shape[-1])
    names, index = example.cpu().unique(return_inverse=True)
    absent = torch.full(values.shape[:-1], torch.nan, dtype=torch.float64)
    if len(names) < 2:
        return absent, absent.clone()
    weights = draw_weights(len(names), resamples, seed)
    nothing = values.new_zeros((*values.shape[:-1], len(names)), dtype=torch.float64, device="cpu")
    total = nothing.index_add(-1, index, values.nan_to_num(0.0).cpu().double())  # (*axes, example)
    count = nothing.index_add(-1, index, known.cpu().double())
    means = (total @ weights.T) / (count @ weights.T)  # (*axes, sample); 0 / 0 is NaN
    low, high = means.nanquantile(torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2]).double(), dim=-1)
    return low, high


def draw_weights(examples: int, resamples: int = RESAMPLES, seed: int = 0) -> Float[Tensor, "sample example"]:
    """How often each example is in each bootstrap sample of `resample`."""
    draws = resample(examples, resamples, seed)
    return torch.zeros(resamples, examples, dtype=torch.float64).scatter_add_(
        1, draws, torch.ones_like(draws, dtype=torch.float64)
    )
