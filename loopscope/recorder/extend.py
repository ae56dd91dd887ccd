"""onward: a run with iterations beyond those shown, and with the sites that a measurement needs."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.errors import LoopscopeError, LoopscopeWarning
from ..core.indexing import as_vectors
from ..core.looped_model import Looped, step_at
from ..core.state_tree import primary
from ..core.states import States
from ..runs.run import Run
from .record_run import record
from .resume_run import resume


@dataclass(frozen=True)
class Continuation:
    """A run continued."""

    run: Run
    states: States
    """Its states; of a loop that ends by itself also those that it would have had."""
    shown: int
    """Iterations of the original run."""
    last: int
    """The last k whose state is finite and whole."""
    overflow: int | None
    """The first k whose state holds NaN or infinity."""
    how: str
    """Where the states come from, as a sentence."""

    @property
    def extra(self) -> int:
        return self.last - self.shown


def continue_run(
    run: Run, extra: int, sites: Sequence[str] = (), examples: int | None = None
) -> Continuation:
    """Go on with a run for `extra` iterations; if it lacks `sites`, record it again from its
    tokens.

    What can't be iterated (a wrapped module, a run loaded without its model) is taken as it is, if
    it has the sites.

    Arguments:
        examples: where it is recorded again: the first so many.
    """
    n, missing = run.iterations, [site for site in sites if site not in run]
    if not run.origin.get("whole", True) or run.states.iterations != list(
        range(run.states.iterations[0], n + 1)
    ):
        raise LoopscopeError(
            "whole states of every iteration are needed, but this run kept only a part "
            f"(keep={run.origin['keep']}). Record again without keep=."
        )
    try:
        model = run.model
    except LoopscopeError as error:
        return _asis(run, missing, f"The run can't be continued ({str(error).split(',')[0]})")
    if not isinstance(model, Looped):
        return _asis(run, missing, "A module wrapped by its body can't be iterated on")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoopscopeWarning)  # what overflows is part of the result
        if not missing:
            later = resume(model, run, n + extra)
            how = f"The run was continued to state {later.iterations}, {later.iterations - n} iterations beyond those shown."
        else:
            later, how = _again(run, model, n + extra, sites, examples=examples)
    if run.origin.get("edits"):
        how += " Its edits were not made again in them."
    states, last = later.states, later.iterations
    if last < n + extra:
        how += f" At state {last} the loop ends by itself."
        if not sites:
            states, last = _past(later, model, n + extra), n + extra
            how += " It was iterated past that by hand."
    overflow = first_overflow(states)
    return Continuation(later, states, n, last if overflow is None else overflow - 1, overflow, how)


def _past(run: Run, model: Looped, n: int) -> States:
    """The states of a loop that ended by itself, iterated to `n` nevertheless."""
    values, state = dict(run.states.items()), run.state(run.iterations)
    with torch.no_grad():
        for t in range(run.iterations, n):
            state = step_at(model, state, run.reader.context, t)
            values[(t + 1,)] = primary(state)
    return States("state", values, run.states.axes, n + 1)


def _again(run: Run, model: Looped, n: int, sites: Sequence[str], *, examples: int | None) -> tuple[Run, str]:
    asked = list(dict.fromkeys(sites))
    if run.origin.get("edits"):
        raise LoopscopeError(
            f"the sites {asked} are needed but were not recorded, and a run with edits can't be made again "
            f"from its tokens. Record it with sites={asked}."
        )
    tokens = run.tokens[:examples] if isinstance(run.tokens, Tensor) else run.tokens
    later = record(model, tokens, n, sites=asked, seed=run.origin.get("seed"))
    k = min(run.iterations, later.iterations)
    old, new = run.states[k][: len(tokens)], later.states[k]
    if not torch.allclose(old, new.to(old), rtol=1e-3, atol=1e-4 * float(old.abs().max()), equal_nan=True):
        raise LoopscopeError(
            f"the sites {asked} are needed but were not recorded, and recording the run's tokens again "
            "gives other states (a random start without a seed, or other weights). Record it with "
            f"sites={asked}."
        )
    fewer = f"the first {len(tokens)} examples were" if len(tokens) < len(run.tokens) else "it was"
    return (
        later,
        f"For sites that the run lacks {fewer} recorded again, {n - run.iterations} iterations beyond those "
        "shown.",
    )


def _asis(run: Run, missing: list[str], why: str) -> Continuation:
    if missing:
        raise LoopscopeError(
            f"{why}, and the sites {missing} were not recorded. Record with sites={missing}."
        )
    overflow = first_overflow(run.states)
    last = run.iterations if overflow is None else overflow - 1
    return Continuation(
        run, run.states, run.iterations, last, overflow, f"{why}, so only what was recorded is used."
    )


def first_overflow(states: States) -> int | None:
    """The first k whose value holds NaN or infinity."""
    return next((k for k in states.iterations if not states[k].isfinite().all()), None)


def vectors(
    states: States, first: int | None = None, last: int | None = None
) -> Float[Tensor, "iteration batch position width"]:
    """A site's values as one vector per example and position; a site without positions has one.

    All axes but iteration, batch and position are the vector: of inner loops too, and of heads.

    Arguments:
        first, last: the iterations, both included; None: from the first, to the last.
    """
    labels = states.iterations
    first, last = labels[0] if first is None else first, labels[-1] if last is None else last
    return torch.stack(
        [as_vectors(states[k].detach(), states.axes[1:]) for k in labels if first <= k <= last]
    )


def inside(run: Run, ending: str) -> list[str]:
    """The sites inside the loop whose names end so: those that were recorded, else those that the
    model has."""
    recorded = [name for name in run.names if name.endswith(ending) and isinstance(run[name], States)]
    if recorded:
        return recorded
    try:
        hooks = list(getattr(run.model, "hook_dict", {}))
    except LoopscopeError:
        return []
    core = [name for name in hooks if name.endswith(ending)]
    if not core:
        return []
    # which of them belong to the loop is known only when it runs: one example tells
    tokens = run.tokens[:1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoopscopeWarning)
        probe = record(run.model, tokens, 1, sites=core, seed=run.origin.get("seed"))
    return [name for name in core if name in probe and isinstance(probe[name], States)]
