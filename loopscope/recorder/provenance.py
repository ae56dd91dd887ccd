"""Provenance: how a run was made, as its file and the report state it."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from ..adapters.base import Adapter
from ..common.errors import LoopscopeError
from ..common.to_json import to_json
from ..core.counted import special_tokens
from ..interventions.edit_checks import AnyEdit
from ..runs.conditions import Conditions
from ..runs.keep import Keep
from ..runs.weight_digests import recorded_digest, weights_digest


def circumstances(
    model: Any, edits: Sequence[AnyEdit], keep: Keep | None, seed: int | None
) -> dict[str, Any]:
    """Entry, architecture, config, task, weights, edits, keep, seed, modes, autocast, precision,
    device and versions, as values for JSON."""
    task = getattr(model, "task", None)
    first = next(iter(model.parameters()), None) if isinstance(model, nn.Module) else None
    entry = getattr(model, "name", None)
    return {
        "entry": entry if isinstance(entry, str) else None,
        **_construction(model),
        "task": {"name": task.name, "options": to_json(task.options)} if task is not None else None,
        "special_tokens": to_json(vars(special_tokens(getattr(model, "config", None), task))),
        "weights": recorded_digest(model),
        "edits": [str(edit) for edit in edits],
        "keep": str(keep or Keep()),
        "whole": (keep or Keep()).whole,
        "seed": seed,
        **Conditions.now(model).described(model),
        "dtype": str(first.dtype).removeprefix("torch.") if first is not None else None,
        "device": str(first.device) if first is not None else None,
        "versions": versions(),
    }


def _construction(model: Any) -> dict[str, Any]:
    """What a model is apart from its weights: its class and its configuration."""
    config = getattr(model, "config", None)
    return {
        "architecture": type(model.module if isinstance(model, Adapter) else model).__name__,
        "config": to_json(vars(config)) if hasattr(config, "__dataclass_fields__") else None,
    }


def check_same_model(model: Any, origin: Mapping[str, Any], what: str) -> None:
    """Raise LoopscopeError unless a model is one like that of a run's recording: of the same class,
    configuration and weights.

    Arguments:
        origin: of the run.
        what: is about to be done with the model, such as "resume needs".
    """
    advice = "Take the model of the recording, or record the run's tokens with this one."
    for name, value in _construction(model).items():
        if origin.get(name) is not None and origin[name] != value:
            raise LoopscopeError(
                f"{what} the model that made the run, whose {name} is {_short(origin[name])}, but that of "
                f"this model is {_short(value)}. {advice}"
            )
    weights = weights_digest(model)
    if origin.get("weights") is not None and origin["weights"] != weights:
        raise LoopscopeError(
            f"{what} the model that made the run, with the weights {origin['weights']} (a digest), but this "
            f"model has {weights}: they were changed, or it is another. {advice}"
        )


def check_same_origin(one: Mapping[str, Any], other: Mapping[str, Any], what: str) -> None:
    """Raise LoopscopeError if two runs are of different models, or of different weights of one.

    Arguments:
        one, other: their origins.
        what: needs runs of one model, such as "effects".
    """
    difference = origin_difference(one, other)
    if difference is not None:
        raise LoopscopeError(
            f"{what} needs runs of one model with the same weights, but {difference}. Record both with one "
            "model. To study the states of one model in another, give them as values: "
            "ls.patch(..., value=...)."
        )


def origin_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """In what the models of two runs differ, as a clause; None if they are the same, as far as the
    runs' origins say it."""
    for name in ("architecture", "config", "weights"):
        values = one.get(name), other.get(name)
        if None not in values and values[0] != values[1]:
            return f"the {name} of one is {_short(values[0])} and of the other {_short(values[1])}"
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."


def versions() -> dict[str, str]:
    """Versions of the packages that the numbers depend on: loopscope, torch, transformer-lens."""
    return dict(_versions())


@cache  # they are read from the disk, which takes milliseconds of each recording
def _versions() -> dict[str, str]:
    result = {"torch": str(torch.__version__)}
    for name in ("loopscope", "transformer-lens"):
        try:
            result[name] = version(name)
        except PackageNotFoundError:
            result[name] = "not installed"
    return result
