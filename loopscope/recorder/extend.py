"""continue_run: a run with further iterations, and with the sites that a measurement needs."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..common.errors import LoopscopeError, LoopscopeWarning
from ..common.text import plural
from ..core.finite import all_finite
from ..core.indexing import as_vectors
from ..core.looped_model import Looped
from ..core.state_tree import primary
from ..core.states import States
from ..interventions.edits import Edit, patch
from ..maths.precision import resolution
from ..runs.run import Run
from ..runs.run_mask import mask_at
from .continued_run import continued_run, states_past_halting
from .extra_iterations import EXTRA as EXTRA
from .extra_iterations import extra_of as extra_of
from .record_run import record

_MOST_NAMES = 3
"""As many names of sites are listed in a sentence."""


@dataclass(frozen=True)
class Continuation:
    """A run with further iterations."""

    run: Run
    states: States
    """The states of `run`; those of a loop that ends early are continued to the requested
    length."""
    recorded_iterations: int
    """Iterations of the original run."""
    last: int
    """The last k whose state is finite."""
    overflow: int | None
    """The first k whose state holds NaN or infinity; None if all are finite."""
    description: str
    """How the states were computed, as a sentence."""

    @property
    def extra(self) -> int:
        """How many finite states there are beyond those of the original run."""
        return self.last - self.recorded_iterations


def continue_run(
    run: Run, extra: int, sites: Sequence[str] = (), examples: int | None = None
) -> Continuation:
    """Continue a run for `extra` iterations. If it lacks some of `sites`, record it again from its
    tokens.

    A run that can't be iterated (of a module wrapped by its body, or loaded without its model) is
    returned as it is, if it has the sites.

    Arguments:
        extra: how many further iterations.
        sites: the sites that the result must have.
        examples: if it is recorded again: only the first ones, so many of them.

    Raises:
        LoopscopeError: the run kept only a part of its states, or can't be recorded again where it
            must be.
    """
    n, missing = run.iterations, [site for site in sites if site not in run]
    every_state = run.states.iterations == list(range(run.states.iterations[0], n + 1))
    if not run.origin.get("whole", True) or not every_state:
        raise LoopscopeError(
            "whole states of every iteration are needed, but this run kept only a part "
            f"(keep={run.origin['keep']}). Record again without keep=."
        )
    try:
        model = run.model
    except LoopscopeError as error:
        return _not_continued(run, missing, f"The run can't be continued ({str(error).split(',')[0]})")
    if (reason := not_iterable(run)) is not None:
        return _not_continued(run, missing, reason)
    if "short" in run.origin and not missing:
        return _not_continued(run, missing, kept_short(run))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoopscopeWarning)  # overflow is reported in the result
        if missing:
            later, description = _recorded_again(run, model, n + extra, sites, examples=examples)
        else:
            later = continued_run(run, n + extra, sites)
            description = (
                f"The run was continued to state {later.iterations}, "
                f"{plural(later.iterations - n, 'iteration')} beyond those recorded."
            )
    note = getattr(model, "continuation_note", None)
    description += "" if note is None else note(later.iterations)
    if run.origin.get("edits"):
        description += " Its edits don't apply in these."
    states, last = later.states, later.iterations
    if last < n + extra:
        description += f" The loop ends early at state {last}, when every position has halted."
        if not sites:
            states, last = states_past_halting(later, n + extra), n + extra
            description += " The map was iterated further nevertheless."
    overflow = first_overflow(states, mask_at(later, states))
    last = last if overflow is None else overflow - 1
    return Continuation(later, states, n, last, overflow, description)


def not_iterable(run: Run) -> str | None:
    """Why a run can't be iterated on by its model, as a clause; None if it can."""
    if run.origin.get("generated"):
        return "The tokens of a generation can't be iterated on"
    if run.origin.get("cached"):
        return "A pass that read a cache can't be iterated on"
    if isinstance(run.model, Looped):
        return None
    if run.reader.refusal is not None and "body" not in run.origin:
        return "The adapter's four functions differ from the model and aren't used"
    return "This module, wrapped by its body, can't be iterated on"


def kept_short(run: Run) -> str:
    """Why a run of rounded states isn't continued, as a clause."""
    return f"States kept in {run.origin['short']} can't be iterated on"


def _drawn_start(run: Run, model: Looped, examples: int) -> list[Edit]:
    """The run's own first state as an edit, where the model draws it and no seed can give it again;
    else nothing."""
    if run.origin.get("seed") is not None or 0 not in run.states.iterations:
        return []
    with run.reader.as_recorded(draws=True), torch.no_grad():
        drawn = [primary(model.initial(run.reader.context)) for _ in range(2)]
    if torch.equal(*drawn):
        return []
    return [patch("state", iteration=0, value=run.states[0][:examples])]


def _recorded_again(
    run: Run, model: Looped, n: int, sites: Sequence[str], *, examples: int | None
) -> tuple[Run, str]:
    """A recording of the run's tokens with these sites, and its description. The run remembers the
    recording for whoever asks for no other sites and as many examples."""
    needed = list(dict.fromkeys(sites))
    count = len(run.tokens) if examples is None else min(examples, len(run.tokens))
    recordings: dict[tuple[int, tuple[str, ...]], Run] = run.memory.recall("recordings") or {}
    later = next(
        (one for (of, names), one in recordings.items() if of == count and {*needed} <= {*names}), None
    )
    if later is None:
        later = _recording(run, model, n, needed, examples=count)
        run.memory.keep("recordings", recordings | {(count, tuple(needed)): later})
    else:
        later = continued_run(later, n, needed)
    part = f"first {count} " if count < len(run.tokens) else ""
    return later, (
        f"{_absent([name for name in needed if name not in run])} missing in the recording, so its {part}"
        f"examples were recorded again, with {plural(n - run.iterations, 'iteration')} beyond those recorded."
    )


def _recording(run: Run, model: Looped, n: int, needed: list[str], *, examples: int) -> Run:
    """A recording of the run's tokens with these sites, if it has the run's states."""
    if run.origin.get("edits"):
        raise LoopscopeError(
            f"the sites {needed} are needed but were not recorded, and a run with edits can't be made again "
            f"from its tokens. Record it with sites={needed}."
        )
    tokens, inputs, counted = run.tokens, run.inputs, run.counted
    if isinstance(tokens, Tensor) and examples < len(tokens):
        tokens, inputs = run.select_inputs(range(examples))
        counted = replace(counted, mask=counted.mask[:examples])
    seed = run.origin.get("seed")
    with run.reader.as_recorded(draws=True, seeded=seed is not None):
        start = _drawn_start(run, model, len(tokens))
        later = record(model, tokens, n, sites=needed, edits=start, seed=seed, **inputs).with_counted(counted)
    k = min(run.iterations, later.iterations)
    old, new = (
        as_vectors(states[k], states.axes[1:])[: len(tokens)] for states in (run.states, later.states)
    )
    eps = resolution(old.dtype)
    if old.shape[:2] == (mask := mask_at(later, later.states)).shape:
        old, new = old[mask.to(old.device)], new[mask.to(new.device)]
    if not torch.allclose(
        old, new.to(old), rtol=max(1e-3, eps), atol=1e-4 * float(old.abs().max()), equal_nan=True
    ):
        raise LoopscopeError(
            f"the sites {needed} are needed but were not recorded, and recording the run's tokens again "
            "gives other states (a random start without a seed, or other weights). Record it with "
            f"sites={needed}."
        )
    return later


def _absent(sites: list[str]) -> str:
    """The sites as the subject of a sentence, with its verb; of many only the first."""
    if len(sites) == 1:
        return f"The site {sites[0]} was"
    if len(sites) <= _MOST_NAMES:
        return f"The sites {', '.join(sites[:-1])} and {sites[-1]} were"
    return f"The sites {', '.join(sites[: _MOST_NAMES - 1])} and {len(sites) - _MOST_NAMES + 1} others were"


def _not_continued(run: Run, missing: list[str], reason: str) -> Continuation:
    if missing:
        raise LoopscopeError(
            f"{reason}, and the sites {missing} were not recorded. Record with sites={missing}."
        )
    overflow = first_overflow(run.states, mask_at(run, run.states))
    last = run.iterations if overflow is None else overflow - 1
    description = f"{reason}, so only what was recorded is used."
    return Continuation(run, run.states, run.iterations, last, overflow, description)


def first_overflow(states: States, mask: Bool[Tensor, "batch position"]) -> int | None:
    """The first k whose value holds NaN or infinity where positions count; None if all are
    finite."""

    def finite(k: int) -> bool:
        if all_finite(states[k]):
            return True
        x = as_vectors(states[k], states.axes[1:])
        return bool(x[mask.to(x.device)].isfinite().all())

    return next((k for k in states.iterations if not finite(k)), None)


def vectors(
    states: States, first: int | None = None, last: int | None = None
) -> Float[Tensor, "iteration batch position width"]:
    """A site's values as one vector for each iteration, example and position.

    A site without positions has one. All other axes are flattened into the vector, those of inner
    loops and heads too.

    Arguments:
        first, last: the iterations, both included; None: from the first, to the last.

    Raises:
        LoopscopeError: the values differ in shape.
    """
    labels = states.iterations
    first, last = labels[0] if first is None else first, labels[-1] if last is None else last
    labels = [k for k in labels if first <= k <= last]
    vector_shape(states, labels)
    chosen = [states[k].detach() for k in labels]
    return torch.stack([as_vectors(value.to(chosen[0].device), states.axes[1:]) for value in chosen])


def vector_shape(states: States, labels: Sequence[int] | None = None) -> tuple[int, ...]:
    """(iteration, batch, position, width) of a site's values as vectors.

    Arguments:
        labels: the iterations; None: all that are present.

    Raises:
        LoopscopeError: the values differ in shape.
    """
    labels = states.iterations if labels is None else labels
    shapes = sorted({tuple(as_vectors(states[k], states.axes[1:]).shape) for k in labels})
    if len(shapes) > 1:
        raise LoopscopeError(
            f"'{states.name}' must have the same examples, positions and width at every iteration to be "
            f"compared between them, but had {shapes}. Take its values one by one: run.states[k]."
        )
    return (len(labels), *shapes[0])


def sites_in_loop(run: Run, suffix: str) -> list[str]:
    """The sites inside the loop whose names end in `suffix`: the recorded ones, or if there are
    none, those of the model."""
    recorded = [name for name in run.names if name.endswith(suffix) and isinstance(run[name], States)]
    return recorded or list(run.memory.once(("sites", suffix), lambda: _sites_of_model(run, suffix)))


def _sites_of_model(run: Run, suffix: str) -> tuple[str, ...]:
    try:
        hooks = list(getattr(run.model, "hook_dict", {}))
    except LoopscopeError:
        return ()
    candidates = [name for name in hooks if name.endswith(suffix)]
    if not candidates:
        return ()
    # which of them run inside the loop shows only when it runs: one iteration of one example
    tokens, inputs = run.select_inputs([0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoopscopeWarning)
        seed = run.origin.get("seed")
        with run.reader.as_recorded(draws=True, seeded=seed is not None) as model:
            short = record(model, tokens, 1, sites=candidates, seed=seed, **inputs)
    return tuple(name for name in candidates if name in short and isinstance(short[name], States))
