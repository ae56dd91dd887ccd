"""A run of an untrained model of the same configuration, on the same tokens: what training has changed is told beside it."""

import warnings

import torch

from .errors import LoopscopeWarning
from .recorder import record
from .run import Run


def untrained(run: Run, seed: int = 0) -> Run | None:
    """The run as an untrained model of its kind would have made it; None where the model's class can't be built from its config.

    Arguments:
        seed: of the fresh weights, and of whatever the model draws.
    """
    model = run.model
    if not hasattr(getattr(model, "config", None), "__dataclass_fields__"):
        return None
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            fresh = type(model)(model.config)
        except Exception:  # somebody's class that wants other arguments
            return None
    first = next(iter(model.parameters()), None)
    fresh = fresh if first is None else fresh.to(first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoopscopeWarning)
        return record(fresh.eval(), run.tokens, run.iterations, seed=seed)
