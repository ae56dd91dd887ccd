"""iterate: any function as a looped model, so that every analysis works on it."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..common.arguments import Count
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..core.loop_index import Clock
from ..core.looped_model import checked_iterations
from ..runs.run import Run
from .record_run import record


class Iterated(nn.Module):
    """A map F as a looped model: `step` applies F, `decode` returns the state.

    Its `tokens` are the initial states, (batch, width) or (batch, position, width).
    """

    def __init__(self, function: Callable[[Tensor], Tensor], iterations: int) -> None:
        super().__init__()
        self.function = function
        """A module's parameters are parameters of this model too."""
        self.iterations = iterations
        self.clock = Clock()
        self.state = nn.Identity()
        self.name = getattr(function, "__name__", type(function).__name__)
        # what a function draws doesn't depend on a mode; a function that is a module keeps its own
        self.training = self.state.training = False

    def encode(self, tokens: Tensor) -> Tensor:
        """The initial states."""
        return tokens

    def initial(self, context: Tensor) -> Tensor:
        """states[0]."""
        return context

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        """F of a state."""
        new = self.function(state)
        if not isinstance(new, Tensor) or new.shape != state.shape:
            received = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
            raise LoopscopeError(
                f"the function must turn a state into a state of the same shape {tuple(state.shape)}, but "
                f"iteration {t} gave {received}. Return a tensor of that shape."
            )
        return new

    def decode(self, state: Tensor, context: Tensor) -> Tensor:
        return state

    def at_state(self, state: Tensor) -> Tensor:
        return self.state(state)

    def finished(self, state: Tensor) -> bool:
        return False


@guarded
def iterate(function: Callable[[Tensor], Tensor], initial: Tensor, iterations: Count, **options: Any) -> Run:
    """Iterate a function and record every state.

    >>> start = torch.full((1, 1), 0.4, dtype=torch.float64)
    >>> run = ls.iterate(lambda x: 3.83 * x * (1 - x), start, 300)      # the logistic map
    >>> ls.analyses.measure("cycles", run).verdict

    Arguments:
        function: maps a state to a state of the same shape.
        initial: states[0], floating point, (batch, width) or (batch, position, width).
        iterations: how often the function is applied.
        options: as for `record`: edits, keep, grad, seed.

    Raises:
        LoopscopeError: `initial` is no such tensor, or the function returns another shape.
    """
    if not isinstance(initial, Tensor) or not initial.is_floating_point() or initial.ndim not in (2, 3):
        received = (
            (tuple(initial.shape), initial.dtype) if isinstance(initial, Tensor) else type(initial).__name__
        )
        raise LoopscopeError(
            "initial must be a floating-point tensor (batch, width) or (batch, position, width), but is "
            f"{received}. For one number: torch.tensor([[0.4]])."
        )
    return record(Iterated(function, checked_iterations(iterations)), initial.detach().clone(), **options)
