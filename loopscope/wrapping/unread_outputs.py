"""What a loop's body returns besides its state, and whether a later iteration reads it.

A recording of two iterations can't show that by its numbers: the one call that is substituted was
computed with these very outputs. So they are replaced by other numbers.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ..core.sites import Path, float_tensors, get_at, put_at
from .tensor_match import same_values

if TYPE_CHECKING:
    from .substituted_pass import Iteration


def further_outputs(output: Any, inputs: Any, state: list[tuple[int, Path]]) -> list[Path]:
    """Where a call returns floating-point tensors that are neither the state nor among its inputs,
    as a mask would be."""
    received = [tensor for _, tensor in float_tensors(inputs)]
    mine = [path for _, path in state]
    return [
        path
        for path, tensor in float_tensors(output)
        if path not in mine and not any(same_values(tensor, other) for other in received)
    ]


def with_other_numbers(first: "Iteration") -> "Iteration":
    """The form of an iteration whose calls return other numbers than it did, except for the state
    and for what they received."""
    outputs = {}
    for number, output in first.outputs.items():
        for path in first.unread[number]:
            value = get_at(output, path)
            noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
            output = put_at(output, path, noise.to(value) - value)
        outputs[number] = output
    return replace(first, outputs=outputs)
