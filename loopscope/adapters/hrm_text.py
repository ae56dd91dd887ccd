"""HRM-Text, as transformers has it: two stacks, H and L, at two time scales (Wang et al. 2025,
arXiv 2506.21734).

An iteration is one high cycle: L_cycles calls of L_module, each on low + high, then one of H_module
on high + low. The high state starts as the scaled embedding, which isn't injected again. The first
calls of L_module run without gradients, as many as the model's `L_bp_cycles_padded` has; in
iterations beyond the model's depth, all but the last.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ..core.hooks import TemporaryHooks
from .base import Adapter
from .forward_inputs import check_no_cache, dropped_cache, without_cache
from .high_low import State


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    embedded: Tensor
    """(batch, position, width): the scaled embedding."""
    kwargs: dict[str, Any]
    """Further inputs of both stacks: mask, positions."""
    tokens: Any
    inputs: Mapping[str, Any]
    """Of the whole model."""


class HrmText(Adapter):
    """HRM-Text with or without its head."""

    fields = State._fields
    loop_sites = ("low_in", "low_out", "high_in")
    update_sites: ClassVar = {"high": (), "low": ("low_out",)}
    family = "an iteration is one high cycle, L_cycles calls of L_module (axis low) and one of H_module"

    @property
    def base(self) -> Any:
        """The model without its head."""
        return getattr(self.module, "model", self.module)

    @property
    def iterations(self) -> int:
        return self.base.config.H_cycles

    @property
    def followed_inputs(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Names of the inputs that are followed; without its head the model keeps every
        position."""
        read_out = ("logits_to_keep",) if self.base is not self.module else ()
        return ("attention_mask", "position_ids", "token_type_ids", "inputs_embeds", "use_cache", *read_out)

    def encode(self, tokens: Tensor, **inputs: Any) -> Context:
        check_no_cache(inputs)
        embeds = [inputs["inputs_embeds"]] if inputs.get("inputs_embeds") is not None else []

        def keep_embeds(args: Any, kwargs: Any, output: Any) -> Any:
            embeds.append(output)
            return output

        with TemporaryHooks() as hooks:
            hooks.attach(self.base.embed_tokens, after=keep_embeds)
            _, kwargs = dropped_cache(*self.first_inputs(self.base.L_module, tokens, **inputs))
        kwargs = {name: value for name, value in kwargs.items() if name != "cycle_offset"}
        return Context(embeds[0] * self.base.embedding_scale, kwargs, tokens, inputs)

    def initial(self, context: Context) -> State:
        high = context.embedded
        return State(high, self.base.z_L_init.to(high).expand_as(high).contiguous())

    def step(self, state: State, context: Context, t: int) -> State:
        base, config = self.base, self.base.config
        high, low = state
        with_gradient = base.L_bp_cycles_padded
        first = config.L_cycles - (with_gradient[t] if t < len(with_gradient) else 1)
        slot = t * (config.L_cycles + 1)
        for cycle in self.clock.loop("low", range(config.L_cycles)):
            with torch.no_grad() if self.truncates_gradients and cycle < first else nullcontext():
                low_input = self.low_in(low.to(high.device) + high)
                offset = (slot + cycle) * config.num_layers_per_stack
                low = self.low_out(base.L_module(low_input, cycle_offset=offset, **context.kwargs))
        high = base.H_module(
            self.high_in(high + low.to(high.device)),
            cycle_offset=(slot + config.L_cycles) * config.num_layers_per_stack,
            **context.kwargs,
        )
        return State(high, low)

    def decode(self, state: State, context: Context) -> Tensor:
        if context is None or context.inputs.get("logits_to_keep") is None:  # None: made by generate
            return self.logits_from_state(state)
        from transformers.modeling_outputs import BaseModelOutputWithPast

        output = BaseModelOutputWithPast(last_hidden_state=state.high)
        inputs = without_cache(self.module, context.inputs)
        return self.logits_in(self.read_out(self.base, output, context.tokens, **inputs))

    def logits_from_state(self, state: State) -> Tensor:
        head = getattr(self.module, "lm_head", None)
        return state.high if head is None else head(state.high)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        return self.decode(State(h, h), context)

    def loop_ends(self) -> tuple[nn.Module, nn.Module]:
        return self.base.L_module, self.base.H_module

    def inner_loop_modules(self) -> dict[str, nn.Module]:
        return {"low": self.base.L_module}

    def extra_state_modules(self) -> dict[str, nn.Module]:
        return {"low": self.base.L_module}

    def embedding(self) -> nn.Module:
        return self.base.embed_tokens

    def initial_from_call(self, first_input: Tensor, embedded: Tensor | None) -> State | None:
        low = self.base.z_L_init.to(first_input).expand_as(first_input)
        high = first_input - low if embedded is None else embedded * self.base.embedding_scale
        return State(high, low) if torch.equal(low + high, first_input) else None


def adapt(module: nn.Module) -> HrmText:
    """The adapter of an HrmTextModel or HrmTextForCausalLM."""
    return HrmText(module)
