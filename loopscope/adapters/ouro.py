"""Ouro, whose code comes with its checkpoint (Zhu et al. 2025, arXiv 2510.25741).

An iteration is a pass through all layers and the norm; the normalised state is fed back. The exit
gate reads every state but changes nothing: the released code runs all `total_ut_steps`, and returns
an earlier answer only if the caller requests it.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..halting.halting_record import Halting, gate_halting
from ..halting.model_rules import exit_rule
from ..halting.rule import Rule
from .base import Adapter
from .forward_hooks import without_cache


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    embedded: Tensor
    """(batch, position, width)"""
    kwargs: dict[str, Any]
    """Further inputs of every layer: mask, positions."""


class Ouro(Adapter):
    """Ouro, class OuroForCausalLM."""

    body_receives_state = True
    family = "an iteration is a pass through all layers and the norm, which is fed back"

    @property
    def iterations(self) -> int:
        return int(self.module.model.total_ut_steps)

    @property
    def layers(self) -> list[nn.Module]:
        """The layers of an iteration."""
        base = self.module.model
        return list(base.layers[: base.config.num_hidden_layers])

    def encode(self, tokens: Tensor, **inputs: Any) -> Context:
        kinds = {getattr(layer, "attention_type", None) for layer in self.layers}
        if len(kinds) > 1:
            raise LoopscopeError(
                "the layers of an Ouro model must share one mask to be iterated, but have "
                f"{len(kinds)} types of attention: {sorted(map(str, kinds))}. Record it by its "
                "body: ls.wrap(model, body=[...])."
            )
        args, kwargs = self.first_inputs(self.layers[0], tokens, **without_cache(inputs))
        return Context(args[0] if args else kwargs["hidden_states"], kwargs)

    def initial(self, context: Context) -> Tensor:
        return context.embedded

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        kwargs = {name: value for name, value in context.kwargs.items() if name != "hidden_states"}
        if "current_ut" in kwargs:
            kwargs["current_ut"] = t
        h = self.core_in(state)
        for layer in self.layers:
            output = layer(h, **kwargs)
            h = output[0] if isinstance(output, tuple) else output
        h = self.module.model.norm(h)
        self.module.model.early_exit_gate(h)
        return h

    def decode(self, state: Tensor, context: Context) -> Tensor:
        return self.logits_from_state(state)

    def logits_from_state(self, state: Tensor) -> Tensor:
        return self.module.lm_head(state)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        return self.logits_from_state(h)

    def loop_ends(self) -> tuple[nn.Module, nn.Module]:
        return self.layers[0], self.module.model.norm

    @property
    def halting_unit(self) -> nn.Module:
        return self.module.model.early_exit_gate

    @property
    def rule(self) -> Rule:
        return exit_rule(self._threshold, self.exit_probability)

    @property
    def _threshold(self) -> float:
        return getattr(self.config, "early_exit_threshold", 1.0)

    def exit_probability(self, state: Tensor) -> Tensor:
        """(batch, position): the probability of stopping after the iteration that returned
        `state`."""
        return torch.sigmoid(self.module.model.early_exit_gate(state)[..., 0])

    def halting(self, run: Any) -> Halting | None:
        return gate_halting(run, self.exit_probability, self._threshold)


def adapt(module: nn.Module) -> Ouro:
    """The adapter of an OuroForCausalLM."""
    return Ouro(module)
