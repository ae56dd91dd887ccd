"""Families that are known by the name of their class. Each is one file, which imports nothing that
its user doesn't have."""

import importlib
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from .base import Adapter

FAMILIES = {
    "HrmTextForCausalLM": "hrm_text",
    "HrmTextModel": "hrm_text",
    "AlbertModel": "albert",
    "AlbertPreTrainedModel": "albert",
    "OuroForCausalLM": "ouro",
    "RavenForCausalLM": "huginn",
    "TransformerWrapper": "x_transformers",
    "TinyRecursiveModel": "tiny_recursive",
    "TransformerBridge": "bridge",
}
"""The file of each class."""


def is_known(module: nn.Module) -> bool:
    """Whether the module's class, or one that it inherits from, is of a known family."""
    return any(kind.__name__ in FAMILIES for kind in type(module).__mro__)


def adapted(module: nn.Module) -> "Adapter | None":
    """The model's four functions, if its class or one that it inherits from is known; else None."""
    for kind in type(module).__mro__:
        if kind.__name__ in FAMILIES:
            family = importlib.import_module(f".{FAMILIES[kind.__name__]}", __name__)
            return family.adapt(module)
    return None
