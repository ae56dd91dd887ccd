"""Agreement of two raters, beyond what chance would give."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def kappa(first: Int[Tensor, " item"], second: Int[Tensor, " item"]) -> Float[Tensor, ""]:
    """(a - c) / (1 - c), with a the fraction of items on which two raters agree and c what it would
    be by chance, were each to keep its own shares of the categories (Cohen 1960). 1 for the same
    ratings, 0 for unrelated ones; NaN where both only ever use one category, the same.

    Arguments:
        first, second: the category that each gives to each item, 0 or more.
    """
    count = int(torch.cat([first, second]).max()) + 1 if len(first) else 1
    shares = [torch.bincount(own, minlength=count).double() / len(own) for own in (first, second)]
    chance = (shares[0] * shares[1]).sum()
    agree = (first == second).double().mean()
    return torch.where(chance < 1, (agree - chance) / (1 - chance).clamp(min=1e-300), torch.nan)
