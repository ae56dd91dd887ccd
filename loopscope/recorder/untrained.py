"""Untrained models of the same configuration: what training has changed is told beside what they
do."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..common.errors import LoopscopeError, LoopscopeWarning
from ..core.sites import is_state
from ..runs.run import Run
from .record_run import record


def untrained(run: Run, seed: int = 0, sites: Sequence[str] = ()) -> Run | None:
    """The run as an untrained model of its kind would have made it; None where it isn't known how
    to build one.

    Arguments:
        seed: of the fresh weights, and of whatever the model draws.
        sites: what to record besides the states.
    """
    try:
        fresh = untrained_model(run.model, seed)
    except LoopscopeError:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoopscopeWarning)
        inside = [site for site in sites if not is_state(site)]
        return record(fresh, run.tokens, run.iterations, sites=inside, seed=seed, **run.inputs)


def untrained_model(model: Any, seed: int) -> Any:
    """A model of the same class and configuration with fresh weights, in evaluation mode.

    Raises:
        LoopscopeError: it isn't known how to build one: it neither has a dataclass as its config,
            as the zoo's models do, nor is it one of transformers.
    """
    from ..adapters.base import Adapter

    if isinstance(model, Adapter):
        from ..wrapping.wrap_module import wrap

        return wrap(_fresh(model.module, seed))
    if not hasattr(getattr(model, "config", None), "__dataclass_fields__"):
        raise LoopscopeError(f"it isn't known how to build an untrained {type(model).__name__}")
    return _built(model, model.config, seed)


def _fresh(module: nn.Module, seed: int) -> nn.Module:
    """A module of transformers, built anew from its configuration."""
    if not hasattr(getattr(module, "config", None), "to_dict"):
        raise LoopscopeError(f"it isn't known how to build an untrained {type(module).__name__}")
    return _built(module, copy.deepcopy(module.config), seed)


def _built(module: nn.Module, config: Any, seed: int) -> nn.Module:
    first = next(module.parameters(), None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            made = type(module)(config).eval()
        except Exception as error:  # somebody's class that wants other arguments
            raise LoopscopeError(
                f"an untrained {type(module).__name__} can't be built from its configuration "
                f"({type(error).__name__})"
            ) from error
    return made if first is None else made.to(device=first.device, dtype=first.dtype)
