"""What the iterations of a module wrapped by its body read besides the state."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from .prefix import Outputs
from .substituted_pass import Iteration


class Form:
    """The form of an iteration, and what was seen of the pass besides."""

    def __init__(self, first: Iteration, modules: Sequence[nn.Module], draws: bool) -> None:
        self.first, self.modules, self.draws = first, list(modules), draws
        self.count: int | None = None
        """How many iterations the module runs on these inputs by itself; None: not yet seen."""


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    tokens: Any
    inputs: Mapping[str, Any]
    """Of the whole module."""
    kept: Outputs
    """What the modules before the loop returned."""
    form: Form
