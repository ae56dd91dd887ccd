"""Observation: what an exit rule reads of the loop after one of its iterations."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from ..core.state_tree import State, primary
from ..maths import output_signals

if TYPE_CHECKING:
    from ..runs.run import Run


class Observation(NamedTuple):
    """The loop after k iterations, as an exit rule reads it."""

    k: int
    """Iterations run so far; 0 before the loop."""
    state: State
    """states[k], as the model's `step` returns it."""
    hidden: Float[Tensor, "batch position width"]
    """The primary tensor of the state."""
    log_probabilities: Float[Tensor, "batch position vocab"] | None
    """Of the answer after k iterations, nats; None if no rule reads answers."""


def observe(k: int, state: State, logits: Float[Tensor, "batch position vocab"] | None) -> Observation:
    """The observation of states[k], with its answer if there are logits."""
    answers = None if logits is None else output_signals.log_probabilities(logits)
    return Observation(k, state, primary(state), answers)


def answers_after(run: "Run", k: int) -> Float[Tensor, "batch position vocab"]:
    """The logits of a run after k iterations, as if the model's own halting had frozen nothing:
    what a rule that decides in its place would answer.

    This is `run.logits[k]`, except for models with an exit gate, whose answers stop changing once
    they have halted.
    """
    without_freezing = getattr(run.model, "without_freezing", None) if run.has_model else None
    if without_freezing is None:
        return run.logits[k]
    return run.reader.logits(without_freezing(run.state(k)))


def as_recorded(run: "Run") -> AbstractContextManager[Any]:
    """A block in which the run's model, if it has one, computes as it did in the recording."""
    return run.reader.as_recorded() if run.has_model else nullcontext()


def successive_observations(run: "Run", with_answers: bool) -> Iterator[tuple[Observation, Observation]]:
    """(previous, current) observation for each iteration of a run.

    Arguments:
        with_answers: whether the answers are read out too. The first previous observation, from
            before the loop, never has them.
    """
    previous = observe(0, run.state(0), None)
    for k in range(1, run.iterations + 1):
        current = observe(k, run.state(k), answers_after(run, k) if with_answers else None)
        yield previous, current
        previous = current
