"""Cohen's kappa: agreement of two raters beyond chance."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..common.guard import guarded


@guarded
def kappa(first: Int[Tensor, " item"], second: Int[Tensor, " item"]) -> Float[Tensor, ""]:
    """(a - c) / (1 - c), with a the fraction of items on which two raters agree, and c the fraction
    expected by chance from how often each rater uses each category (Cohen 1960). 1 for equal
    ratings, 0 for independent ones; NaN where both raters use only one category, the same.

    >>> kappa(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 0]))
    tensor(0.5000, dtype=torch.float64)

    Arguments:
        first, second: the category that each rater assigns to each item, 0 or more.
    """
    count = int(torch.cat([first, second]).max()) + 1 if len(first) else 1
    shares = [torch.bincount(ratings, minlength=count).double() / len(ratings) for ratings in (first, second)]
    chance = (shares[0] * shares[1]).sum()
    agree = (first == second).double().mean()
    return torch.where(chance < 1, (agree - chance) / (1 - chance).clamp(min=1e-300), torch.nan)
