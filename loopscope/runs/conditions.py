"""Conditions: the modes and settings of a recording, under which its states are read out later."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..core.outside_modes import autocast_dtypes
from ..core.sites import modules_of
from ..core.turns import modules_within

_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
)
"""How each of torch's settings that change numbers is read and set: the default dtype, the
precision of products, and which implementations of attention may be used."""


@dataclass(frozen=True)
class Conditions:
    """How a model computes at a moment, its weights apart."""

    modes: tuple[tuple[nn.Module, bool], ...]
    """Whether each module is in training mode."""
    autocast: Mapping[str, torch.dtype | None]
    """By type of device; None where it is off."""
    settings: tuple[Any, ...]
    """The values of `_SETTINGS`."""

    @staticmethod
    def now(model: Any) -> "Conditions":
        """Those of a model at this moment, in this thread."""
        modes = tuple((module, module.training) for module in modules_within(model))
        return Conditions(modes, autocast_dtypes(), tuple(get() for get, _ in _SETTINGS))

    @property
    def trains(self) -> bool:
        """Whether any part of the model is in training mode, and may draw random numbers."""
        return any(mode for _, mode in self.modes)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """A block under these conditions; those before it are put back after it."""
        with ExitStack() as stack:
            for module, mode in self.modes:
                if module.training is not mode:
                    stack.callback(setattr, module, "training", module.training)
                    module.training = mode
            for (get, put), value in zip(_SETTINGS, self.settings, strict=True):
                if (before := get()) != value:
                    stack.callback(put, before)
                    put(value)
            now = autocast_dtypes()
            for device, dtype in self.autocast.items():
                if now[device] != dtype:
                    torch.clear_autocast_cache()  # weights in another precision
                    stack.callback(torch.clear_autocast_cache)
                    stack.enter_context(torch.autocast(device, dtype, enabled=dtype is not None))
            yield

    def described(self, model: Any) -> dict[str, Any]:
        """The conditions as values for JSON; `conditions_from` reads them."""
        training = bool(getattr(model, "training", False))
        modes = dict(self.modes)
        others = [name for name, module in _named(model).items() if modes.get(module, training) != training]
        autocast = {
            device: str(dtype).removeprefix("torch.")
            for device, dtype in self.autocast.items()
            if dtype is not None
        }
        return {"training": training, "other_modes": others, "autocast": autocast}


def conditions_from(model: Any, described: Mapping[str, Any]) -> Conditions:
    """The conditions that a run's origin describes, for a model like that of the run."""
    now = Conditions.now(model)
    training, named = bool(described.get("training", False)), _named(model)
    others = {named[name] for name in described.get("other_modes", ()) if name in named}
    autocast: dict[str, torch.dtype | None] = dict.fromkeys(now.autocast)
    for device, name in described.get("autocast", {}).items():
        if device in autocast and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            autocast[device] = dtype
    modes = tuple((module, training != (module in others)) for module, _ in now.modes)
    return Conditions(modes, autocast, now.settings)


def _named(model: Any) -> dict[str, nn.Module]:
    return modules_of(model) if isinstance(model, nn.Module) else {}
