"""x-transformers' TransformerWrapper: looped=True (an Ouro), or layers tied by `weight_tie_layers`
and execution orders.

Looped: an iteration is a pass through `attn_layers`, including its final norm; the exit gate reads
every state. Tied: an iteration is one pass through the layers that repeat; the final norm runs
once, after the loop.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..core.looped_model import Context
from ..core.sites import find_tensor, get_at
from ..halting.halting_record import Halting, gate_halting
from ..halting.model_rules import exit_rule
from ..halting.rule import Rule
from .forward_hooks import replaced_forward
from .single_body import SingleBodyAdapter

_CARRIES = (
    "add_value_residual",
    "residual_attn",
    "cross_residual_attn",
    "reinject_input",
    "softclamp_output",
)
"""Options of attention layers with which an iteration reads more of earlier ones than the residual
stream."""

_INPUTS = (
    *("mask", "pos", "embed_ids", "sum_embeds", "prepend_embeds", "prepend_mask", "excise_prepend_embeds"),
    *("seq_start_pos", "attn_mask", "self_attn_kv_mask"),
)
"""Inputs that reach every iteration, or only the embedding and the read-out."""

_EXIT = 0.9
"""The default of looped_exit_prob_threshold."""


class Looped(SingleBodyAdapter):
    """A TransformerWrapper with looped=True."""

    family = "an iteration is a pass through attn_layers and its final norm"
    followed_inputs = (*_INPUTS, "looped_steps", "max_looped_steps")

    @property
    def iterations(self) -> int:
        return self.module.train_max_looped_steps

    @property
    def vocabulary(self) -> int:
        return self.module.num_tokens

    def depth(self, tokens: Any, inputs: Mapping[str, Any]) -> int:
        return int(inputs.get("looped_steps") or inputs.get("max_looped_steps") or self.iterations)

    def body(self) -> nn.Module:
        return self.module.attn_layers

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        h = super().step(state, context, t)
        self.module.exit_gate(h)
        return h

    def decode(self, state: Tensor, context: Context) -> Tensor:
        with replaced_forward(self.module.exit_gate, lambda h: h[..., :1]):  # it already ran in the loop
            return _read_out(self, state, context, looped_steps=1, looped_pred_all_logits=False)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        return self.decode(h, context)

    @property
    def halting_unit(self) -> nn.Module:
        return self.module.exit_gate

    @property
    def rule(self) -> Rule:
        return exit_rule(_EXIT, self.exit_probability)

    def exit_probability(self, state: Tensor) -> Tensor:
        """(batch, position): the probability of stopping after the iteration that returned
        `state`."""
        return torch.sigmoid(self.module.exit_gate(state)[..., 0])

    def halting(self, run: Any) -> Halting | None:
        return gate_halting(run, self.exit_probability, _EXIT)


class Tied(SingleBodyAdapter):
    """A TransformerWrapper with tied layers."""

    family = "an iteration is a pass through the layers that repeat; the final norm comes after the loop"
    followed_inputs = _INPUTS

    @property
    def order(self) -> tuple[int, ...]:
        """The indices of the layers of one iteration."""
        return _period(self.module.attn_layers.layers_execute_order)

    @property
    def iterations(self) -> int:
        return len(self.module.attn_layers.layers_execute_order) // len(self.order)

    def loop_ends(self) -> tuple[nn.Module, nn.Module]:
        """The norm before the first layer, and the sum or the norm after the last: `attn_layers`
        itself is called once."""
        layers = self.module.attn_layers.layers
        (before, *_), block, _ = layers[self.order[0]]
        (*_, after), _, residual = layers[self.order[-1]]
        return before or block, after or residual

    @property
    def vocabulary(self) -> int:
        return self.module.num_tokens

    def body(self) -> nn.Module:
        return self.module.attn_layers

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        with replaced_forward(self.module.attn_layers.final_norm, lambda x, **_: x):
            kwargs = context["kwargs"] | {"layers_execute_order": self.order}
            return super().step(state, context | {"kwargs": kwargs}, t)

    def decode(self, state: Tensor, context: Context) -> Tensor:
        return _read_out(self, self.module.attn_layers.final_norm(state), context)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        return self.decode(h, context)


def _read_out(adapter: SingleBodyAdapter, h: Tensor, context: Context, **options: Any) -> Tensor:
    from x_transformers.x_transformers import LayerIntermediates

    output = adapter.read_out(
        adapter.body(), (h, LayerIntermediates()), context["tokens"], **(context["inputs"] | options)
    )
    path = find_tensor(output)
    assert path is not None
    return get_at(output, path)


def _period(order: tuple[int, ...]) -> tuple[int, ...]:
    """The shortest sequence that the order repeats; the whole order if it repeats none."""
    sizes = [size for size in range(1, len(order) + 1) if len(order) % size == 0]
    return next(order[:size] for size in sizes if order[:size] * (len(order) // size) == order)


def adapt(module: nn.Module) -> SingleBodyAdapter:
    """The adapter of a TransformerWrapper that loops or has tied layers.

    Raises:
        LoopscopeError: nothing repeats, or iterations share more than the residual stream.
    """
    if module.looped:
        return Looped(module)
    layers: Any = module.attn_layers
    if len(_period(layers.layers_execute_order)) == len(layers.layers_execute_order):
        raise LoopscopeError(
            f"a TransformerWrapper must loop to be wrapped without a body, but runs its layers in the order "
            f"{layers.layers_execute_order}, which isn't one order again and again. Build it with "
            "looped=True or weight_tie_layers=True, or name the part that repeats: ls.wrap(model, body=...)."
        )
    carries = [name for name in _CARRIES if getattr(layers, name, False)]
    if carries or layers.num_residual_streams > 1 or any(map(bool, layers.layer_integrators)):
        raise LoopscopeError(
            "an iteration must pass on the residual stream alone, but these attention layers pass on more "
            f"({', '.join(carries) or 'several streams or earlier layers'}). Record it by its body: "
            "ls.wrap(model, body=...)."
        )
    return Tied(module)
