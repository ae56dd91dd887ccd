"""Nanbeige, whose code comes with its checkpoint (Nanbeige 4.2, arXiv 2607.22083).

An iteration is a pass through all layers; the norm ends every iteration, or only the last where
`skip_loop_final_norm` says so. Which of them it is, is read from the model's own forward. Keys and
values have a slot for each (iteration, layer). There are no exits.
"""

from torch import nn

from .ouro import Ouro


class Nanbeige(Ouro):
    """The class NanbeigeForCausalLM."""

    family = "an iteration is a pass through all layers, and the norm unless the model skips it"
    followed_inputs = (
        *("attention_mask", "position_ids", "cache_position", "inputs_embeds", "use_cache"),
        "logits_to_keep",
    )
    counter = "loop_idx"

    @property
    def iterations(self) -> int:
        return int(getattr(self.module.config, "num_loops", 1))


def adapt(module: nn.Module) -> Nanbeige:
    """The adapter of a NanbeigeForCausalLM."""
    return Nanbeige(module)
