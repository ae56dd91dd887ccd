"""A Universal Transformer in PyTorch, for stories and questions (Dehghani et al. 2018, arXiv
1807.03819; the class BabiUTransformer).

An iteration adds the signals of position and of depth to the state and applies one layer, `enc`. In
iterations beyond the model's depth the signal of depth is the last one.

With its ACT (`act_fn`, Graves 2016, arXiv 1603.08983) the answer is read from `output`, into which
every iteration is mixed with its weight w, as h w + output (1 - w), and the loop ends once all
positions have halted. So the share of an iteration in the answer is its w times all later 1 - w,
and the shares sum to less than one. `ls.record(model, story, query=...)`: (batch, sentence, word)
and (batch, word).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..halting.act_state import ACTState
from ..halting.halting_record import Halting, act_halting
from ..halting.model_rules import act_rule
from ..halting.rule import Rule
from .base import Adapter

_PARTS = ("enc", "timing_signal", "position_signal", "num_layers", "input_dropout")


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    embedded: Tensor
    """(batch, position, width): a vector for each sentence, and one for the question."""
    places: Tensor
    """(1, position, width): the signal of position."""
    depths: Tensor
    """(1, iteration, width): the signal of depth."""
    tokens: Any
    inputs: Mapping[str, Any]
    """Of the whole model."""


class UniversalTransformer(Adapter):
    """The class BabiUTransformer, without ACT."""

    family = "an iteration adds the signals of position and of depth, and applies the layer"
    followed_inputs = ("query",)

    @property
    def encoder(self) -> Any:
        """The part that loops."""
        return self.module.transformer_enc

    @property
    def iterations(self) -> int:
        return int(self.encoder.num_layers)

    def logits_in(self, output: Any) -> Any:
        return output[0]

    def encode(self, tokens: Any, **inputs: Any) -> Context:
        encoder = self.encoder
        (embedded, *_), _ = self.first_inputs(encoder, tokens, **inputs)
        h = encoder.input_dropout(embedded)
        h = encoder.embedding_proj(h) if getattr(encoder, "proj_flag", False) else h
        places = encoder.timing_signal[:, : h.shape[1]].type_as(h)
        return Context(h, places, encoder.position_signal.type_as(h), tokens, inputs)

    def initial(self, context: Context) -> Any:
        return context.embedded

    def step(self, state: Any, context: Context, t: int) -> Any:
        return self.encoder.enc(self.core_in(self._signalled(state, context, t)))

    def decode(self, state: Any, context: Context) -> Tensor:
        return self.logits_of(state, context)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        return self.logits_in(self.read_out(self.encoder, (h, None), context.tokens, **context.inputs))

    def loop_ends(self) -> tuple[nn.Module, nn.Module]:
        return self.encoder.enc, self.encoder.enc

    def initial_from_call(self, first_input: Tensor, embedded: Tensor | None) -> None:
        """Nothing: the signals were added to it."""

    def _signalled(self, h: Tensor, context: Context, t: int) -> Tensor:
        return h + context.places + context.depths[:, min(t, self.iterations - 1), None]


class UniversalTransformerACT(UniversalTransformer):
    """The class BabiUTransformer, with ACT."""

    fields = ACTState._fields

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.recurrent_fields = self.fields[:1]

    def initial(self, context: Context) -> ACTState:
        zero = torch.zeros_like(context.embedded[..., 0])
        return ACTState(context.embedded, torch.zeros_like(context.embedded), zero, zero, zero)

    def step(self, state: ACTState, context: Context, t: int) -> ACTState:
        h = self.core_in(self._signalled(state.h, context, t))
        p = torch.sigmoid(self.encoder.act_fn.p(h)).squeeze(-1)
        running = (state.mass < 1).to(p.dtype)
        over = state.mass + p * running > self.encoder.act_fn.threshold
        halts, running = over * running, ~over * running
        mass = state.mass + p * running
        remainder = state.remainder + halts * (1 - mass)
        weight = (p * running + halts * remainder)[..., None]
        h = self.encoder.enc(h)
        output = h * weight + state.output * (1 - weight)
        return ACTState(h, output, mass + halts * remainder, remainder, state.count + running + halts)

    def decode(self, state: ACTState, context: Context) -> Tensor:
        return self.logits_of(state.output, context)

    def finished(self, state: ACTState) -> bool:
        return not bool((state.mass < self.encoder.act_fn.threshold).any())

    @property
    def halting_unit(self) -> nn.Module:
        return self.encoder.act_fn.p

    @property
    def rule(self) -> Rule:
        return act_rule()

    def halting(self, run: Any) -> Halting:
        w = run["state.mass"].tensor.float().diff(dim=0)
        left = torch.cat([1 - w[1:], torch.ones_like(w[:1])])  # by later iterations, of what is mixed in
        return replace(act_halting(run), weights=w * left.flip(0).cumprod(0).flip(0))


def adapt(module: nn.Module) -> UniversalTransformer:
    """The adapter of a BabiUTransformer.

    Raises:
        LoopscopeError: it lacks parts of the published one.
    """
    encoder = getattr(module, "transformer_enc", None)
    act = bool(getattr(encoder, "act", False))
    lacking = [name for name in (*_PARTS, *["act_fn"] * act) if not hasattr(encoder, name)]
    if lacking:
        raise LoopscopeError(
            "a BabiUTransformer must have the parts of the published one in transformer_enc, to be wrapped "
            f"without a body, but lacks {', '.join(lacking)}. Name the part that repeats: "
            "ls.wrap(model, body=...)."
        )
    return UniversalTransformerACT(module) if act else UniversalTransformer(module)
