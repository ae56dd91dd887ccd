"""HRM-Text, as transformers has it: two stacks, H and L, at two time scales (Wang et al. 2025,
arXiv 2506.21734).

An iteration is one high cycle: L_cycles calls of L_module, each on low + high, then one of H_module
on high + low. The high state starts as the scaled embedding, which isn't injected again. The first
calls of L_module run without gradients, as many as the model's `L_bp_cycles_padded` has; in
iterations beyond the model's depth, all but the last.
"""

from contextlib import nullcontext
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from .base import Adapter
from .forward_hooks import without_cache


class State(NamedTuple):
    """The states of the two stacks."""

    high: Tensor
    """(batch, position, width)"""
    low: Tensor


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    embedded: Tensor
    """(batch, position, width): the scaled embedding."""
    kwargs: dict[str, Any]
    """Further inputs of both stacks: mask, positions."""


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

    def encode(self, tokens: Tensor, **inputs: Any) -> Context:
        base = self.base
        embeds = base.embed_tokens(tokens)
        _, kwargs = self.first_inputs(base.L_module, inputs_embeds=embeds, **without_cache(inputs))
        kwargs = {name: value for name, value in kwargs.items() if name != "cycle_offset"}
        return Context(embeds * base.embedding_scale, kwargs)

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
        return self.logits_from_state(state)

    def logits_from_state(self, state: State) -> Tensor:
        head = getattr(self.module, "lm_head", None)
        return state.high if head is None else head(state.high)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        return self.logits_from_state(State(h, h))

    def loop_ends(self) -> tuple[nn.Module, nn.Module]:
        return self.base.L_module, self.base.H_module

    def inner_loop_modules(self) -> dict[str, nn.Module]:
        return {"low": self.base.L_module}

    def extra_state_modules(self) -> dict[str, nn.Module]:
        return {"low": self.base.L_module}

    def embedding(self) -> nn.Module:
        return self.base.embed_tokens

    def initial_from_call(self, first_input: Tensor, embedded: Tensor | None) -> State:
        low = self.base.z_L_init.to(first_input).expand_as(first_input)
        return State(first_input - low if embedded is None else embedded * self.base.embedding_scale, low)


def adapt(module: nn.Module) -> HrmText:
    """The adapter of an HrmTextModel or HrmTextForCausalLM."""
    return HrmText(module)
