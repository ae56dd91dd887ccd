"""TransformerLens' TransformerBridge of a model of a supported family: its hook names, each with an
iteration axis."""

from typing import Any

from torch import nn

from ..common.errors import LoopscopeError
from . import adapter_for
from .base import Adapter


def adapt(module: nn.Module) -> Adapter:
    """The adapter of the model inside the bridge, with the bridge's hook names.

    Raises:
        LoopscopeError: the model inside is of no supported family.
    """
    bridge: Any = module
    inside: nn.Module = bridge.original_model
    model = adapter_for(inside)
    if model is None:
        raise LoopscopeError(
            f"a TransformerBridge must hold a model of a supported looped family to be wrapped, but holds a "
            f"{type(inside).__name__}. Name the part that repeats: ls.wrap(bridge, body=...)."
        )
    model.set_outer_module(bridge, dict(bridge.hook_dict))
    return model
