"""ALBERT, as transformers has it: one layer (or group of layers) applied again and again (Lan et
al. 2019, arXiv 1909.11942).

An iteration is one call of a layer group. With several groups, each runs in a range of the
iterations, as in the model; iterations beyond the model's depth use the last group.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..core.looped_model import Context
from .single_body import SingleBodyAdapter


class Albert(SingleBodyAdapter):
    """ALBERT with or without a head."""

    family = "an iteration is one call of a layer group"
    followed_inputs = ("attention_mask", "token_type_ids", "position_ids", "inputs_embeds")

    @property
    def base(self) -> Any:
        """The model without its head."""
        return getattr(self.module, "albert", self.module)

    @property
    def iterations(self) -> int:
        return self.base.config.num_hidden_layers

    def group(self, t: int) -> nn.Module:
        """The layer group that runs in iteration t."""
        groups, layers = self.base.encoder.albert_layer_groups, self.iterations
        return groups[min(int(t / (layers / len(groups))), len(groups) - 1)]

    def body(self) -> nn.Module:
        return self.group(0)

    def loop_bodies(self) -> Sequence[nn.Module]:
        return list(self.base.encoder.albert_layer_groups)

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        _, *others = context["args"]
        output = self.group(t)(self.core_in(state), *others, **context["kwargs"])
        return output[0] if isinstance(output, tuple) else output  # a tuple before transformers 5

    def decode(self, state: Tensor, context: Context) -> Tensor:
        if self.base is self.module:  # no head: its output is the last state
            return state
        from transformers.modeling_outputs import BaseModelOutput

        output = self.read_out(
            self.base.encoder,
            BaseModelOutput(last_hidden_state=state),
            context["tokens"],
            **context["inputs"],
        )
        return self.logits_in(output)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        return self.decode(h, context)


def adapt(module: nn.Module) -> Albert:
    """The adapter of an AlbertModel, or of a model with one."""
    return Albert(module)
