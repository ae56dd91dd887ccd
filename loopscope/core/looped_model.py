"""A looped model as four functions, and the one driver that runs them.

A looped model is four functions:

    context = model.encode(tokens)           # all that every iteration may read; computed once
    state   = model.initial(context)         # states[0]
    state   = model.step(state, context, t)  # one iteration; states[t+1]
    logits  = model.decode(state, context)   # read out after any iteration

Forward passes, recordings, training, resuming, patching and analyses all run the loop through
`unroll`, or one iteration of it through `step_at`.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from ..common.errors import LoopscopeError
from .loop_index import Clock
from .state_tree import State
from .state_tree import primary as primary

Context = Any
"""What every iteration may read, computed once by `encode`. Each model has its own type."""


@runtime_checkable
class Looped(Protocol):
    """What a model must offer to be iterated. `loopscope.nn.LoopedModule` implements all but the
    four functions.

    A model may also have `site_modules()`, the module at each of its sites by name; without it,
    every submodule is a site (`loopscope.core.sites.site_modules`).
    """

    clock: Clock

    @property
    def iterations(self) -> int: ...
    @property
    def training(self) -> bool: ...
    def encode(self, tokens: Any) -> Context:
        """What every iteration may read."""
        ...

    def initial(self, context: Context) -> State:
        """states[0]."""
        ...

    def step(self, state: State, context: Context, t: int) -> State:
        """states[t+1] from states[t]."""
        ...

    def decode(self, state: State, context: Context) -> Tensor:
        """The logits (batch, position, vocab) of a state."""
        ...

    def at_state(self, state: State) -> Any:
        """Pass a state through the site `state` (and `state.<field>`), where it is recorded and
        edited."""
        ...

    def finished(self, state: State) -> bool:
        """Whether every position has halted, so that evaluation may leave the loop early."""
        ...


class Driven(NamedTuple):
    """The end of a forward pass."""

    state: State
    context: Context
    logits: Tensor
    """(batch, position, vocab): the last state, read out."""
    iterations: int
    """How many iterations ran; fewer than requested if every position halted before."""


def step_at(
    model: Looped, state: State, context: Context, t: int, *, iteration_index: int | None = None
) -> Any:
    """states[t+1] from states[t], while the model's clock is at iteration t.

    No other function calls `model.step`, so the clock is right wherever an iteration runs.

    Arguments:
        iteration_index: what the model receives as its iteration index; None means t.
    """
    model.clock.set(("iteration", t))
    try:
        return model.step(state, context, t if iteration_index is None else iteration_index)
    finally:
        model.clock.set()


def first_state(model: Any, context: Context) -> tuple[int, State]:
    """The first state that is known, and its k: states[0], or a later one for a module whose first
    state isn't seen."""
    begin = getattr(model, "begin", None)
    return (0, model.initial(context)) if begin is None else begin(context)


def unroll(
    model: Looped,
    state: State,
    context: Context,
    iterations: int,
    *,
    start: int = 0,
    times: Mapping[int, int] | None = None,
    iteration_index: Mapping[int, int] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Yield (k, states[k]) for k = start..iterations, with the model's clock at the running
    iteration. In evaluation the loop ends early once `model.finished(state)`.

    Arguments:
        state: states[start], from `model.initial` or an earlier pass.
        times: how often an iteration runs, where not once: {3: 0} skips iteration 3, {3: 2} runs
            it twice.
        iteration_index: the iteration index that the model receives, where it is not the running
            iteration: {2: 5, 5: 2} swaps iterations 2 and 5.
    """
    received = {} if iteration_index is None else iteration_index
    try:
        model.clock.set(("iteration", start))
        state = model.at_state(state)
    finally:
        model.clock.set()
    yield start, state
    for t in range(start, iterations):
        if not model.training and model.finished(state):
            return
        for _ in range(1 if times is None else times.get(t, 1)):
            state = step_at(model, state, context, t, iteration_index=received.get(t))
        try:
            model.clock.set(("iteration", t + 1))
            state = model.at_state(state)
        finally:
            model.clock.set()
        yield t + 1, state


def drive(model: Looped, tokens: Any, iterations: int | None = None) -> Driven:
    """Run the four functions in order: the model's forward pass.

    Arguments:
        tokens: (batch, position), or what else `model.encode` takes.
        iterations: how many to run; None means the model's own depth.

    Raises:
        LoopscopeError: iterations is no whole number of 0 or more.
    """
    iterations = checked_iterations(model.iterations if iterations is None else iterations)
    model.clock.set()
    context = model.encode(tokens)
    k, state = deque(unroll(model, model.initial(context), context, iterations), maxlen=1).pop()
    return Driven(state, context, model.decode(state, context), k)


def checked_iterations(iterations: Any) -> int:
    """`iterations` as an int.

    Raises:
        LoopscopeError: it is no whole number of 0 or more.
    """
    if isinstance(iterations, bool) or not hasattr(iterations, "__index__") or int(iterations) < 0:
        raise LoopscopeError(
            f"iterations must be a whole number, 0 or more, but is {iterations!r}. Pass e.g. iterations=32."
        )
    return int(iterations)
