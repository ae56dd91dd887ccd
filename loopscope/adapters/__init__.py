"""Adapters for families of looped models, found by the name of the model's class. Each family is
one file, which imports the family's package only when it is needed. One's own adapter is used
likewise, once it is on the shelf (`loopscope.adapters.shelf`)."""

import importlib
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
    "TransformerWrapper": "x_transformers",
    "TinyRecursiveModel": "tiny_recursive",
    "HierarchicalReasoningModel_ACTV1": "hrm",
    "TinyRecursiveReasoningModel_ACTV1": "trm",
    "TransformerBridge": "bridge",
    "MoEUTLM": "moeut",
    "GPT": "looped_nanochat",
}
"""By name of a class, the file with its adapter."""


def has_adapter(module: nn.Module) -> bool:
    """Whether there is an adapter for the module's class, or for one that it inherits from. A
    family whose class has a name that many models have also looks at the module's parts."""
    placed = set(ADAPTERS.names())
    for kind in type(module).__mro__:
        if kind.__name__ in placed:
            return True
        if kind.__name__ in FAMILIES:
            family = importlib.import_module(f".{FAMILIES[kind.__name__]}", __name__)
            return getattr(family, "recognises", lambda _: True)(module)
    return False


def adapter_for(module: nn.Module) -> "Adapter | None":
    """The adapter of the module's class, or of one that it inherits from; None if there is none."""
    others = ADAPTERS.names()
    for kind in type(module).__mro__:
        if kind.__name__ in ADAPTERS.placed or kind.__name__ in others and kind.__name__ not in FAMILIES:
            return ADAPTERS.get(kind.__name__)(module)
        if kind.__name__ in FAMILIES:
            family = importlib.import_module(f".{FAMILIES[kind.__name__]}", __name__)
            return family.adapt(module)
    return None
