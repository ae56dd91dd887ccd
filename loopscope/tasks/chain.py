"""Chains: the results on the way to an answer, in the order in which they follow."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..common.errors import LoopscopeError


@dataclass(frozen=True)
class Chain:
    """The results that lead to the answer of each example, one after another: the first follows
    from the input, each other one from the one before, and the last is the answer.

    An example with fewer results than others repeats its answer.
    """

    values: Int[Tensor, "result batch position"]
    """The token of each result; at positions without an answer the input token."""
    mask: Bool[Tensor, "result batch position"]
    """Where an example has this result. False at repeated answers and at positions without an
    answer."""

    def __post_init__(self) -> None:
        if self.values.shape != self.mask.shape or self.values.ndim != 3 or not len(self.values):
            raise LoopscopeError(
                "A chain must have values and a mask of one shape (result, batch, position), and one result "
                f"at least, but has {tuple(self.values.shape)} and {tuple(self.mask.shape)}. Stack them."
            )

    def __len__(self) -> int:
        """The results of the longest example."""
        return len(self.values)

    def result(self, number: int) -> Int[Tensor, "batch position"]:
        """Result `number`, 1 for the first; beyond the last one the answer.

        Raises:
            LoopscopeError: there is no result before the first.
        """
        if number < 1:
            raise LoopscopeError(
                f"The results of a chain count from 1, but number is {number}. Before the first there is the "
                "input."
            )
        return self.values[min(number, len(self)) - 1]

    @classmethod
    def of(
        cls,
        results: Int[Tensor, "batch result"],
        lengths: Int[Tensor, " batch"],
        targets: Int[Tensor, "batch position"],
        answered: Bool[Tensor, "batch position"],
    ) -> "Chain":
        """The chain of a task with one answer for each example, from its results.

        Arguments:
            results: whatever stands beyond an example's length doesn't count.
            lengths: the number of results of each example.
            targets, answered: the batch's answers and where they are.
        """
        number = torch.arange(1, results.shape[1] + 1, device=results.device)
        present = number <= lengths[:, None]
        last = results.gather(1, lengths[:, None].long() - 1)
        held = torch.where(present, results, last).T[..., None]
        values = torch.where(answered, held, targets)
        return cls(values, present.T[..., None] & answered)
