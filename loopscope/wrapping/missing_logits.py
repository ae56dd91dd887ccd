"""That a module's forward gives no logits, and what to do."""

from typing import Any

from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..core.output_logits import find_logits


def missing_logits(module: nn.Module, head: str | None, output: Any) -> LoopscopeError:
    """The error of whatever needs logits.

    Arguments:
        head: the module that was named to return them.
        output: of the module's forward.
    """
    kind = type(module).__name__
    if head is not None:
        return LoopscopeError(
            f"head={head!r} must return the logits, but {kind} doesn't call it after its loop, or it returns "
            "no tensor of numbers. Name another."
        )
    return LoopscopeError(
        f"the output of {kind} must hold logits, but is {_described(output)}. Name the module that returns "
        "them: ls.wrap(module, body=..., head=...). If there is none, what needs no logits works: states, "
        "convergence, stability."
    )


def _described(output: Any) -> str:
    """An output without logits, as a noun."""
    answer = find_logits(output)
    if answer is None:
        return f"a {type(output).__name__} without any"
    whose = "a tensor" if isinstance(output, Tensor) else f"a {type(output).__name__} whose first tensor is"
    return f"{whose} {tuple(answer.shape)} that no head returned, such as hidden states"
