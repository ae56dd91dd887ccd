"""The map and its one driver.

A looped model is four functions:

    context = model.encode(tokens)           # all that every iteration may read; computed once
    state   = model.initial(context)         # states[0]
    state   = model.step(state, context, t)  # one iteration; states[t+1]
    logits  = model.decode(state, context)   # read out after any iteration

Everything that runs a loop here (forward, recording, training, resuming, patching, analyses) runs
it through `unroll`, or one iteration of it through `step_at`.
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
"""What every iteration may read, as `encode` made it. Each model has its own type."""


@runtime_checkable
class Looped(Protocol):
    """What a model must offer to be iterated. `loopscope.nn.LoopedModule` gives all but the four
    functions."""

    clock: Clock

    @property
    def iterations(self) -> int: ...
    @property
    def training(self) -> bool: ...
    def encode(self, tokens: Any) -> Context: ...
    def initial(self, context: Context) -> State: ...
    def step(self, state: State, context: Context, t: int) -> State: ...
    def decode(self, state: State, context: Context) -> Tensor: ...

    def at_state(self, state: State) -> Any:
        """Pass a state through the site `state` (and `state.<field>`), where it is recorded and
        edited."""
        ...

    def finished(self, state: State) -> bool:
        """Whether no position has anything left to compute, so that evaluation may leave the
        loop."""
        ...


class Driven(NamedTuple):
    """Where a drive ended."""

    state: State
    context: Context
    logits: Tensor
    """(batch, position, vocab): the last state, read out."""
    iterations: int
    """How many iterations were run; fewer than asked for when every position had halted."""


def step_at(model: Looped, state: State, context: Context, t: int, index: int | None = None) -> Any:
    """states[t+1] from states[t], while the model's clock shows iteration t.

    Nothing else calls `model.step`, so that the clock is right wherever an iteration runs.

    Arguments:
        index: the number that the model receives in place of t.
    """
    model.clock.show(("iteration", t))
    try:
        return model.step(state, context, t if index is None else index)
    finally:
        model.clock.show()


def unroll(
    model: Looped,
    state: State,
    context: Context,
    iterations: int,
    *,
    start: int = 0,
    times: Mapping[int, int] | None = None,
    told: Mapping[int, int] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Yield (k, states[k]) for k = start..iterations, while the model's clock shows the running
    iteration.

    Arguments:
        state: states[start], as `model.initial` or an earlier drive gave it.
        times: how often to run an iteration that isn't run once: {3: 0} skips iteration 3, {3: 2}
            runs it twice.
        told: the number that an iteration is told instead of its own: {2: 5, 5: 2} swaps the two.

    In evaluation the loop is left early when `model.finished(state)`.
    """
    model.clock.show(("iteration", start))
    state = model.at_state(state)
    model.clock.show()
    yield start, state
    for t in range(start, iterations):
        if not model.training and model.finished(state):
            return
        for _ in range(1 if times is None else times.get(t, 1)):
            state = step_at(model, state, context, t, None if told is None else told.get(t))
        try:
            model.clock.show(("iteration", t + 1))
            state = model.at_state(state)
        finally:
            model.clock.show()
        yield t + 1, state


def drive(model: Looped, tokens: Any, iterations: int | None = None) -> Driven:
    """Run the four functions in order: the model's forward pass.

    Arguments:
        tokens: (batch, position), or whatever `model.encode` takes.
        iterations: how many; None means the model's own depth.
    """
    iterations = checked_iterations(model.iterations if iterations is None else iterations)
    model.clock.show()
    context = model.encode(tokens)
    k, state = deque(unroll(model, model.initial(context), context, iterations), maxlen=1).pop()
    return Driven(state, context, model.decode(state, context), k)


def checked_iterations(iterations: Any) -> int:
    """`iterations` as an int, or the sentence that says why not."""
    if isinstance(iterations, bool) or not hasattr(iterations, "__index__") or int(iterations) < 0:
        raise LoopscopeError(
            f"iterations must be a whole number, 0 or more, but is {iterations!r}. Pass e.g. iterations=32."
        )
    return int(iterations)
