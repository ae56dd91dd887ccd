"""Counts the iterations that models run and the products with their Jacobians, by rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from loopscope.core.state_tree import primary
from loopscope.runs.run import Run

PRODUCT = 2
"""A backward pass, which a product with a Jacobian is, costs that many forward passes."""


class Steps:
    """How many iterations ran, each for each of its rows, and how many products."""

    def __init__(self) -> None:
        self.rows, self.products = 0, 0

    def passes(self, run: Run) -> float:
        """The same in forward passes of a run's batch."""
        return (self.rows + PRODUCT * self.products) / (len(run.tokens) * run.iterations)


@contextmanager
def counted_steps(model: Any) -> Iterator[Steps]:
    """Count the iterations of a model's class, copies of the model included, and all backward
    passes."""
    steps, own, grad = Steps(), type(model).step, torch.autograd.grad

    def step(self: Any, state: Any, context: Any, t: int) -> Any:
        steps.rows += len(primary(state))
        return own(self, state, context, t)

    def counted_grad(outputs: Any, inputs: Any, grad_outputs: Any = None, **options: Any) -> Any:
        rows = len(outputs) if isinstance(outputs, torch.Tensor) and outputs.ndim else 1
        many = len(grad_outputs) if options.get("is_grads_batched") else 1
        steps.products += rows * many
        return grad(outputs, inputs, grad_outputs, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model), "step", step)
        patch.setattr(torch.autograd, "grad", counted_grad)
        yield steps
