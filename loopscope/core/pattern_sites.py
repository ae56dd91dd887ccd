"""All sites of attention patterns, and which of a model's sites "all" stands for."""

from collections.abc import Mapping

from torch import nn

from .attention_pattern import AttentionPattern, returned_patterns
from .fused_attention import FusedPattern, fused_patterns


def with_patterns(modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Modules by name, with the patterns of attention modules as they are set now."""
    own = {name: module for name, module in modules.items() if not isinstance(module, AttentionPattern)}
    own |= fused_patterns(own)
    return own | returned_patterns(own)


def listed(modules: Mapping[str, nn.Module]) -> list[str]:
    """The sites that "all" and predicates select from: not the patterns that are computed only to
    be recorded."""
    return [name for name, module in modules.items() if not isinstance(module, FusedPattern)]
