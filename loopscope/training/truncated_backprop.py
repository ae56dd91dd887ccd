"""Truncated back-propagation: which iterations of a training step the gradient passes through."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.looped_model import Context, Looped, unroll
from ..core.state_tree import State, field_names, primary, with_primary
from .validation import check_count, check_range


@dataclass(frozen=True)
class Full:
    """All iterations: back-propagation through time."""

    def unrolled(
        self, model: Looped, state: State, context: Context, iterations: int, start: int = 0
    ) -> Iterator[tuple[int, Any]]:
        """Yield (k, states[k]) for k = start..iterations."""
        yield from unroll(model, state, context, iterations, start=start)


@dataclass(frozen=True)
class Last:
    """The last `iterations`. Those before run without gradient, so that the cost of the backward
    pass doesn't grow with the depth.

    Truncated back-propagation, as in Huginn (Geiping et al. 2025, arXiv 2502.05171). For HRM and
    TRM one iteration is one high cycle, so that Last(1) is the last cycle.
    """

    iterations: int

    def __post_init__(self) -> None:
        check_count("Last.iterations", self.iterations, least=1)

    def unrolled(
        self, model: Looped, state: State, context: Context, iterations: int, start: int = 0
    ) -> Iterator[tuple[int, Any]]:
        """Yield (k, states[k]) from the last state without gradient on."""
        cut = max(start, iterations - self.iterations)
        state = without_gradient(model, state, context, cut, start)
        yield from unroll(model, state, context, iterations, start=cut)


@dataclass(frozen=True)
class Implicit:
    """The implicit gradient at the fixed point (Bai, Kolter & Koltun 2019, arXiv 1909.01377).

    The loop runs without gradient, until `model.finished` or for the step's iterations. One more
    iteration runs with gradient, and the gradient v of its output is replaced by the solution of
    g = v + J^T g with J the iteration's Jacobian: g = (I - J^T)^-1 v, by Anderson's method. It is
    the gradient of the loss only if the loop has converged.
    """

    tolerance: float = 1e-4
    """Relative residual of g at which the solver stops."""
    most: int = 40
    """Largest number of products with J^T."""

    def __post_init__(self) -> None:
        check_range("Implicit.tolerance", self.tolerance, 0, 1)
        check_count("Implicit.most", self.most, least=1)

    def unrolled(
        self, model: Looped, state: State, context: Context, iterations: int, start: int = 0
    ) -> Iterator[tuple[int, Any]]:
        """Yield (k, states[k]) for the last k only."""
        with torch.no_grad():
            states = unroll(model, state, context, max(start, iterations - 1), start=start)
            k, latest = next(states)
            while not model.finished(latest) and (after := next(states, None)) is not None:
                k, latest = after
        yield k + 1, self._attached(model, latest, context, k)

    def _attached(self, model: Looped, state: State, context: Context, k: int) -> Any:
        from ..maths.fixed_point import solve  # scipy is not needed before

        recurrent_fields = getattr(model, "recurrent_fields", ())
        if tuple(recurrent_fields) != field_names(state)[:1] and field_names(state):
            raise LoopscopeError(
                "Implicit needs a loop whose next iteration depends on one tensor, but this state's are "
                f"{', '.join(recurrent_fields)}. Use Full or Last."
            )
        start = primary(state)
        x = start.detach().requires_grad_()
        ((_, _), (_, after)) = unroll(model, with_primary(state, x), context, k + 1, start=k)
        y = primary(after)
        if not y.requires_grad:
            return after
        ((_, _), (_, image)) = unroll(
            model, with_primary(state, x), context, k + 1, start=k
        )  # a second graph, for many backward passes
        f = primary(image)

        def solved(v: Tensor) -> Tensor:
            def back(g: Tensor) -> Tensor:
                with torch.enable_grad():
                    return v + torch.autograd.grad(f, x, g, retain_graph=True)[0]

            return solve(back, v, "anderson", self.tolerance, max_iterations=self.most).point

        y.register_hook(solved)
        return after


Gradient = Full | Last | Implicit


def without_gradient(model: Looped, state: State, context: Context, iterations: int, start: int = 0) -> Any:
    """states[iterations], from states[start] without gradient; the state itself if there is nothing
    to run."""
    if iterations <= start:
        return state
    with torch.no_grad():
        return deque(unroll(model, state, context, iterations, start=start), maxlen=1).pop()[1]
