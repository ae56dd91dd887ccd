"""Adapters for families of looped models, found by the name of the model's class. Each family is
one file, which imports the family's package only when it is needed. One's own adapter is used
likewise, once it is on the shelf (`loopscope.adapters.shelf`)."""

import importlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from .shelf import ADAPTERS

if TYPE_CHECKING:
    from .base import Adapter

FAMILIES = {
    "HrmTextForCausalLM": "hrm_text",
    "HrmTextModel": "hrm_text",
    "AlbertModel": "albert",
    "AlbertPreTrainedModel": "albert",
    "OuroForCausalLM": "ouro",
    "NanbeigeForCausalLM": "nanbeige",
    "RavenForCausalLM": "huginn",
    "Parcae": "parcae",
    "TransformerWrapper": "x_transformers",
    "TinyRecursiveModel": "tiny_recursive",
    "HierarchicalReasoningModel_ACTV1": "hrm",
    "TinyRecursiveReasoningModel_ACTV1": "trm",
    "TransformerBridge": "bridge",
    "MoEUTLM": "moeut",
    "BabiUTransformer": "universal",
    "GPT": "looped_nanochat",
}
"""By name of a class, the file with its adapter."""


def has_adapter(module: nn.Module) -> bool:
    """Whether there is an adapter for the module's class, or for one that it inherits from. A
    family whose class has a name that many models have also looks at the module's parts."""
    make = _maker(module)
    return make is not None and getattr(sys.modules.get(make.__module__), "recognises", lambda _: True)(
        module
    )


def adapter_for(module: nn.Module) -> "Adapter | None":
    """The adapter of the module's class, or of one that it inherits from; None if there is none."""
    make = _maker(module)
    return None if make is None else make(module)


def _maker(module: nn.Module) -> "Callable[[nn.Module], Adapter] | None":
    """What makes the adapter: what the user placed before ours, ours before a package's."""
    others = ADAPTERS.names()
    for kind in type(module).__mro__:
        name = kind.__name__
        if name in ADAPTERS.placed or name in others and name not in FAMILIES:
            return ADAPTERS.get(name)
        if name in FAMILIES:
            return importlib.import_module(f".{FAMILIES[name]}", __name__).adapt
    return None
