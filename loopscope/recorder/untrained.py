"""Untrained models of the same configuration: the baseline for what training has changed."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..adapters.base import Adapter
from ..common.errors import LoopscopeError, LoopscopeWarning
from ..core.sites import is_state
from ..runs.run import Run
from ..runs.spilled import is_large_in_files, spilling
from ..wrapping.wrap_module import wrap
from .record_run import record


def untrained_run(run: Run, seed: int = 0, sites: Sequence[str] = ()) -> Run | None:
    """A recording of the run's tokens by an untrained model of the same configuration; None if no
    such model can be built.

    Arguments:
        seed: of the fresh weights, and of what the model draws.
        sites: what to record besides the states.
    """
    try:
        model = untrained_model(run.model, seed)
    except LoopscopeError:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoopscopeWarning)
        inside = [site for site in sites if not is_state(site)]
        with spilling(is_large_in_files(run, run.iterations)):
            fresh = record(model, run.tokens, run.iterations, sites=inside, seed=seed, **run.inputs)
        return fresh.with_counted(run.counted)


def untrained_model(model: Any, seed: int) -> Any:
    """A model of the same class and configuration with fresh weights, in evaluation mode.

    Raises:
        LoopscopeError: the model can't be built from its configuration. A model of the zoo has a
            dataclass as its config, a model of transformers a config with `to_dict`.
    """
    if isinstance(model, Adapter):
        module = model.module
        if not hasattr(getattr(module, "config", None), "to_dict"):
            raise LoopscopeError(f"it isn't known how to build an untrained {type(module).__name__}")
        return wrap(_built(module, copy.deepcopy(module.config), seed), check=model.check)
    if not hasattr(getattr(model, "config", None), "__dataclass_fields__"):
        raise LoopscopeError(f"it isn't known how to build an untrained {type(model).__name__}")
    return _built(model, model.config, seed)


def _built(module: nn.Module, config: Any, seed: int) -> nn.Module:
    """A new module of the same class, on the same device and of the same precision."""
    first = next(module.parameters(), None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            new = type(module)(config).eval()
        except Exception as error:  # a class that takes other arguments
            raise LoopscopeError(
                f"an untrained {type(module).__name__} can't be built from its configuration "
                f"({type(error).__name__})"
            ) from error
    return new if first is None else new.to(device=first.device, dtype=first.dtype)
