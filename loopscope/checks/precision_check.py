"""Whether a copy of the model in half precision is recorded as it computes."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters.base import Adapter
from ..common.errors import LoopscopeError
from ..wrapping.wrap_module import Wrapped
from .finding import Finding, inapplicable
from .function_check import four_functions
from .output_check import output
from .result import Outcome
from .subject import Subject, make_subject

LARGEST = 1 << 32
"""Bytes of weights of which no copy is made."""


def half_precision(dtype: torch.dtype) -> Callable[[Subject], Finding]:
    """The check of a copy in this dtype: its output with and without recording, and its four
    functions."""
    name = str(dtype).removeprefix("torch.")

    def check(subject: Subject) -> Finding:
        size = sum(tensor.nbytes for tensor in subject.module.parameters())
        if size > LARGEST:
            return inapplicable(f"the weights have {size / 2**30:.1f} GiB, of which no copy is made")
        subject.before.restore()
        try:
            model = _copied(subject.model, dtype)
            half = make_subject(
                model, _cast(subject.tokens, dtype), _cast(subject.inputs, dtype), subject.seed
            )
        except Exception as error:  # whatever a foreign module raises in a precision it isn't made for
            reason = str(error.__cause__ or error).split("\n")[0]
            return inapplicable(f"the model itself doesn't run in {name}: {reason}")
        first = output(half)
        # What isn't iterated in its own precision isn't in a shorter one, which hides why.
        if first.outcome is Outcome.passed and four_functions(subject).outcome is Outcome.passed:
            functions = four_functions(half)
            if functions.outcome is Outcome.failed:
                return functions
        return first._replace(reason=f"in {name}: {first.reason}")

    return check


def _copied(model: Any, dtype: torch.dtype) -> Any:
    """A copy of a model in another precision, of which nothing is known to be equal."""
    result = copy.deepcopy(model)
    module: nn.Module = result.module if isinstance(result, Adapter | Wrapped) else result
    module.to(dtype)
    if isinstance(result, Adapter):
        result.check_again()
    if not any(tensor.dtype == dtype for tensor in module.parameters()):
        raise LoopscopeError("it has no floating-point weights to convert")
    return result


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """The floating-point tensors among the inputs in another precision."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    return {key: _cast(one, dtype) for key, one in value.items()} if isinstance(value, dict) else value
