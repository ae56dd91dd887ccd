"""Further examples of a run's task, where a run has too few for what is measured on it."""

import zlib

from ..common.errors import LoopscopeError
from ..common.rng import mixed
from ..core.sites import is_state
from ..runs.run import Run
from .labels import task_key, task_of
from .record_run import record


def further_examples(run: Run, examples: int, *, site: str = "state", seed: int = 0) -> Run | None:
    """A run of other examples of the same task, by the same model; None where the run has as many
    already, its model or its task isn't known, or it was edited.

    Which examples depends on the run's tokens, too: two runs get different ones, so what is
    measured on them is measured twice, and the same run gets the same again, which it remembers.

    Arguments:
        examples: how many are needed.
        site: recorded besides the states.
        seed: of the examples, and of what the model draws.
    """
    task = task_of(run)
    if len(run.tokens) >= examples or task is None or run.origin.get("edits"):
        return None
    tokens = run.tokens.detach().cpu().contiguous()
    seed = mixed(seed, zlib.crc32(tokens.numpy().tobytes()))
    try:
        model, others = run.model, task.batch(examples, seed=seed).tokens
    except LoopscopeError:
        return None
    if others.shape[1:] != tokens.shape[1:]:
        return None
    parameter = next(iter(model.parameters()), None)
    others = others if parameter is None else others.to(parameter.device)
    sites = [] if is_state(site) else [site]
    return run.memory.once(
        ("further examples", task_key(run), examples, site, seed),
        lambda: record(model, others, run.origin.get("requested_iterations"), sites=sites, seed=seed),
    )
