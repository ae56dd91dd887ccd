"""Items: what is answered, counted one by one: an example with all its answers, or a single answer;
and since when it stands."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot


def items_of(
    mask: Bool[Tensor, "batch position"], by: str
) -> tuple[Int[Tensor, " item"], Float[Tensor, " item"], Bool[Tensor, "item position"]]:
    """(example, how many answers stand before it, asked positions) of every item.

    Arguments:
        mask: the positions that are asked.
        by: "example" or "answer".
    """
    mask = mask.cpu()
    if by == "example":
        return torch.arange(len(mask)), torch.zeros(len(mask), dtype=torch.float64), mask
    example, position = mask.nonzero(as_tuple=True)
    before = (mask.cumsum(1) - 1)[example, position].double()
    return example, before, one_hot(position, mask.shape[1]).bool()


def since(
    held: Bool[Tensor, "iteration batch position"],
    example: Int[Tensor, " item"],
    places: Bool[Tensor, "item position"],
) -> Float[Tensor, " item"]:
    """The first k from which something holds at all of an item's positions, to the end; NaN if it
    doesn't hold there."""
    together = (held[:, example] | ~places).all(2)
    lasting = together.flip(0).int().cumprod(0).sum(0)
    return torch.where(lasting > 0, len(held) - lasting.double(), torch.nan)
