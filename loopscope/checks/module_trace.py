"""Trace: what a module carries besides its outputs, so that what was left behind shows."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..runs.weight_digests import sampled_digests

_MODES = {
    "whether gradients are on": torch.is_grad_enabled,
    "whether it is inference mode": torch.is_inference_mode_enabled,
    "the default dtype": torch.get_default_dtype,
    "whether algorithms are deterministic": torch.are_deterministic_algorithms_enabled,
    "whether the CPU's autocast is on": lambda: torch.is_autocast_enabled("cpu"),
}


@dataclass(frozen=True)
class Trace:
    """By place and kind, what was there."""

    entries: dict[str, Any]

    @staticmethod
    def of(module: nn.Module) -> "Trace":
        """What a module carries now: hooks, attributes, the mode, weights with their versions and
        gradients; and the modes of torch."""
        entries: dict[str, Any] = {name: read() for name, read in _MODES.items()}
        for name, part in module.named_modules():
            place = name or type(module).__name__
            entries |= {f"{kind} of {place}": value for kind, value in _of_part(part)}
        for name, parameter in module.named_parameters():
            version = None if parameter.is_inference() else parameter._version
            grad = parameter.grad
            entries[f"the numbers of {name}"] = sampled_digests([parameter])[0]
            entries[f"the version counter of {name}"] = version
            entries[f"requires_grad of {name}"] = parameter.requires_grad
            entries[f"the gradient of {name}"] = None if grad is None else sampled_digests([grad])[0]
        return Trace(entries)

    def changes(self, later: "Trace") -> list[str]:
        """What is another in a later trace, each as a clause."""
        keys = dict.fromkeys([*self.entries, *later.entries])
        pairs = {key: (self.entries.get(key), later.entries.get(key)) for key in keys}
        return [f"{key} {_change(*pair)}" for key, pair in pairs.items() if pair[0] != pair[1]]


def passing_state(module: nn.Module) -> dict[str, Any]:
    """What a pass may change by itself: buffers and random numbers."""
    buffers = dict(module.named_buffers())
    digests = sampled_digests(list(buffers.values()))
    state = {f"the buffer {name}": digest for name, digest in zip(buffers, digests, strict=True)}
    state["torch's random state"] = sampled_digests([torch.get_rng_state()])[0]
    state["Python's random state"] = hash(random.getstate())
    words = np.random.get_state()
    state["NumPy's random state"] = hash((bytes(words[1]), words[2]))  # pyright: ignore[reportArgumentType]
    return state


def _of_part(part: nn.Module) -> Iterator[tuple[str, Any]]:
    attributes = vars(part)
    hooks = {name: len(value) for name, value in attributes.items() if name.endswith("_hooks") and value}
    yield "the hooks", hooks
    yield "the attributes", sorted(attributes)
    yield "the training mode", part.training
    forward = attributes.get("forward")
    yield "the forward", None if forward is None else id(forward)
    yield "the parameters", [(name, id(value)) for name, value in part._parameters.items()]
    yield "the buffers", sorted(part._buffers)  # a forward may put another tensor in a buffer's place
    yield "the parts", [(name, id(value)) for name, value in part.named_children()]


def _change(before: Any, after: Any) -> str:
    """How one value became another, as a predicate."""
    if isinstance(before, list) and isinstance(after, list):
        more, less = ([one for one in a if one not in b] for a, b in ((after, before), (before, after)))
        if all(isinstance(one, str) for one in [*more, *less]):
            return f"became more by {more} and less by {less}"
    if isinstance(before, bool | dict) and isinstance(after, bool | dict):
        return f"became {after}, from {before}"
    return "changed"
