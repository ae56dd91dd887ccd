"""continued_run: a run continued by its own model, once for all who ask."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from ..common.errors import LoopscopeWarning
from ..core.looped_model import step_at
from ..core.sites import is_state
from ..core.state_tree import map_state, primary
from ..core.states import States
from ..runs.run import Run
from ..runs.spilled import is_large_in_files, spilled
from .resume_run import resume


def continued_run(run: Run, iterations: int, sites: Sequence[str] = ()) -> Run:
    """The states and `sites` of a run, continued by its model to `iterations`, or as far as its
    loop goes; edits don't apply beyond the run.

    The run remembers the longest continuation: a shorter question is answered from it, and a longer
    one goes on from its end. The result is shared, and has no halting; one that is a part of a
    longer one is read out when its logits are indexed. Nothing may be written into it.

    Arguments:
        iterations: of the whole result, no fewer than the run's.
        sites: of the run, inside its loop.

    Raises:
        LoopscopeError: as `loopscope.resume`.
    """
    model = run.model  # refuses weights that have changed
    names = tuple(dict.fromkeys(site for site in sites if not is_state(site)))
    continuations: tuple[Run, ...] = run.memory.recall("continuations") or ()
    having = [one for one in continuations if all(name in one for name in names)]
    begun = max(having, key=lambda one: one.iterations, default=None)
    has_ended = begun is not None and begun.iterations < begun.origin["requested_iterations"]
    longest = _with_sites(run, names) if begun is None else begun
    if longest.iterations < iterations and not has_ended:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LoopscopeWarning)  # of NaN, which results report
            longest = resume(model, longest, iterations)
        longest.halting = None
        rest = tuple(one for one in continuations if not set(one.names) <= set(longest.names))
        run.memory.keep("continuations", (*rest, longest))
    return shortened(longest, iterations)


def shortened(run: Run, iterations: int) -> Run:
    """The first iterations of a run; the run itself where it has no more."""
    if run.iterations <= iterations:
        return run
    sites = {}
    for name in run.names:
        site = run[name]
        sites[name] = site[: iterations + is_state(name)] if isinstance(site, States) else site
    return Run(
        tokens=run.tokens,
        inputs=run.inputs,
        iterations=iterations,
        sites=sites,
        output=None,
        origin=run.origin | {"requested_iterations": iterations},
        counted=run.counted,
        reader=run.reader,
    )


def states_past_halting(run: Run, iterations: int) -> States:
    """The states of a loop that ended early because every position had halted, with its map
    iterated to `iterations` nevertheless."""
    states: States = run.memory.recall("past halting") or run.states
    if states.iterations[-1] < iterations:
        states = _iterated_past(run, iterations)
        run.memory.keep("past halting", states)
    return states[: iterations + 1]


def _iterated_past(run: Run, iterations: int) -> States:
    model, context = run.reader.model, run.reader.context
    # of later states only the first field is kept, so that this begins at the end of the run
    state = map_state(Tensor.clone, run.state(run.iterations))  # the model may write into it
    values, large = dict(run.states.items()), is_large_in_files(run, iterations - run.iterations)
    with run.reader.as_recorded(), torch.no_grad():
        for t in range(run.iterations, iterations):
            state = step_at(model, state, context, t)
            values[(t + 1,)] = spilled(primary(state)) if large else primary(state).clone()
    return States("state", values, run.states.axes, iterations + 1)


def _with_sites(run: Run, names: Sequence[str]) -> Run:
    """The run with its states and these sites alone, so that a continuation records no others; of a
    module that is called in an inner loop and outside it, both ("NAME" and "NAME@iteration")."""
    chosen = [name for name in run.names if is_state(name) or name.partition("@")[0] in names]
    return run.with_sites({name: run[name] for name in chosen})
