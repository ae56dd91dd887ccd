"""Supervision by the task's chain: what the loop's read-out says after each iteration."""

from dataclasses import dataclass

import torch

from ..common.errors import LoopscopeError
from ..core.state_tree import primary
from .supervision import StepInputs, StepOutputs, masked_mean
from .validation import check_count


@dataclass(frozen=True)
class Aligned:
    """The read-out after k iterations is result `order[k]` of the task's chain, with equal
    weights.

    With r_j the j-th result of an example (`task.results`), z_k the logits after k iterations, and
    o the order, the loss is the mean over k = 1..n of the loss of z_k against r_(o_k), at the
    answered positions. After its last result an example repeats its answer, and after the end of
    the order the last number of it stays.

    With the results in their own order this is loop alignment (RELAY: Yu et al. 2025, arXiv
    2502.08482). There the number of iterations is that of each example's results; here it is the
    same for all, so that a loop has to keep an answer until the others have theirs. Another order
    gives loops that show the same results, but not as they follow from each other.
    """

    order: tuple[int, ...] = ()
    """The number of the result that each iteration shows, from 1; empty: 1, 2, 3, ..."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", tuple(self.order))  # a list, when it comes out of JSON
        for number in self.order:
            check_count("Aligned.order", number, least=1)

    def result_after(self, k: int) -> int:
        """The number of the result that is shown after k iterations, k = 1, 2, ..."""
        return self.order[min(k, len(self.order)) - 1] if self.order else k

    def __call__(self, inputs: StepInputs) -> StepOutputs:
        """The loss of one step, with what the next needs.

        Raises:
            LoopscopeError: the task has no chain.
        """
        chain = inputs.task.results(inputs.tokens)
        if chain is None:
            raise LoopscopeError(
                f"Aligned needs a task with a chain of results, but {inputs.task.name} has none. Use hops, "
                "composition or modular-chain, or define task_results."
            )
        context, states = inputs.unrolled()
        losses, logits, state = [], None, None
        for k, state in states:
            if k and primary(state).requires_grad:
                logits = inputs.model.decode(state, context)
                result = chain.result(self.result_after(k)).to(logits.device)
                losses.append(masked_mean(inputs.task.losses(logits, result), inputs.mask))
        assert logits is not None
        return StepOutputs(torch.stack(losses).mean(), logits, state, context)
