"""Counts the iterations that a model runs, by rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from loopscope.core.state_tree import primary


class Steps:
    """How many iterations ran, each for each of its rows."""

    def __init__(self) -> None:
        self.rows = 0


@contextmanager
def counted_steps(model: Any) -> Iterator[Steps]:
    """Count the iterations of a model's class, copies of the model included."""
    steps, own = Steps(), type(model).step

    def step(self: Any, state: Any, context: Any, t: int) -> Any:
        steps.rows += len(primary(state))
        return own(self, state, context, t)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model), "step", step)
        yield steps
