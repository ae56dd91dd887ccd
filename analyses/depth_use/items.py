"""Items: an example with all its answers, or a single answer; and the iteration from which
something holds for good."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot


def items_of(
    mask: Bool[Tensor, "batch position"], by: str
) -> tuple[Int[Tensor, " item"], Float[Tensor, " item"], Bool[Tensor, "item position"]]:
    """(example, number of answers before it, answer positions) of every item.

    Arguments:
        mask: the answer positions.
        by: "example" or "answer".
    """
    mask = mask.cpu()
    if by == "example":
        example = mask.any(1).nonzero()[:, 0]  # one without answers has nothing that could settle
        return example, torch.zeros(len(example), dtype=torch.float64), mask[example]
    example, position = mask.nonzero(as_tuple=True)
    before = (mask.cumsum(1) - 1)[example, position].double()
    return example, before, one_hot(position, mask.shape[1]).bool()


def first_lasting(
    condition: Bool[Tensor, "iteration batch position"],
    example: Int[Tensor, " item"],
    answer_positions: Bool[Tensor, "item position"],
) -> Float[Tensor, " item"]:
    """The first k from which the condition holds to the end at all of an item's answer positions;
    NaN if it doesn't hold at the end."""
    all_positions = (condition[:, example] | ~answer_positions).all(2)
    lasting = all_positions.flip(0).int().cumprod(0).sum(0)
    return torch.where(lasting > 0, len(condition) - lasting.double(), torch.nan)
