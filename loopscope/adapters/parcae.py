"""Parcae, the official code: a loop that is stable by its injection (Prairie et al. 2026, arXiv
2604.12946).

An iteration is the injection `transformer.adapter`, a linear system with a diagonal decay below 1
(or another injection of the same two inputs, state and prelude), and `core_block`. After the loop
come the projection `C`, the coda, the norm, the head and its soft cap. Some blocks also read value
embeddings of the tokens, in every iteration. The first state is random: record with a seed.

A model with recurrent_iteration_method "per-sequence" or "per-token" draws another number of
iterations for each row or token, unless it receives num_steps_pair=(without, with gradients).
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..common.rng import generator_state, restore_generator
from ..core.hooks import TemporaryHooks
from ..core.looped_model import Context as AnyContext
from .base import Adapter
from .forward_hooks import Inputs
from .step_counts import step_counts

_PARTS = ("wte", "prelude", "adapter", "core_block", "C", "coda", "ln_f")


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    embedded: Tensor
    """(batch, position, width): after the prelude and its norm."""
    block_inputs: Inputs
    """Of every block but for the stream and the value embedding: angles and mask."""
    tokens: Tensor
    without: int
    """The number of iterations without gradients."""
    samples: bool
    """Whether the model draws its number of iterations, after the first state."""


class Parcae(Adapter):
    """The class Parcae."""

    family = "an iteration is the injection of the prelude into the state, and the core blocks"
    followed_inputs = ("num_steps_pair", "attention_mask", "position_ids", "return_logits")
    body_receives_state = True

    @property
    def parts(self) -> Any:
        """The model's prelude, injection, core blocks, projection, coda and norm."""
        return self.module.transformer

    @property
    def iterations(self) -> int:
        return int(self.module.config.mean_recurrence)

    @property
    def vocabulary(self) -> int:
        return self.parts.wte.num_embeddings

    def check_inputs(self, tokens: Any, inputs: Mapping[str, Any]) -> None:
        super().check_inputs(tokens, inputs)
        if inputs.get("num_steps_pair") is not None:
            step_counts(inputs["num_steps_pair"], "num_steps_pair")
            return
        method = getattr(self.module.config, "recurrent_iteration_method", "per-batch")
        if method != "per-batch":
            raise LoopscopeError(
                "every row and token must have the same number of iterations to be recorded, but this Parcae "
                f"draws them {method}. Say how many to run, without and with gradients: "
                f"ls.record(model, tokens, num_steps_pair=({self.iterations}, 0))."
            )

    def depth(self, tokens: Any, inputs: Mapping[str, Any]) -> int:
        return sum(self._counts(inputs))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own forward, with its logits."""
        return super().forward(*args, **kwargs | {"return_logits": True})

    def logits_in(self, output: Any) -> Any:
        return output["logits"]

    def encode(self, tokens: Tensor, **inputs: Any) -> Context:
        seen: dict[str, Any] = {}

        def keep_inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            seen["block"] = args[1:], {name: value for name, value in kwargs.items() if name != "ve"}
            return args, kwargs

        def keep_generator(args: Any, kwargs: Any, output: Any) -> Any:
            seen["generator"] = generator_state()
            return output

        with TemporaryHooks() as hooks:
            hooks.attach(self.parts.prelude[0], before=keep_inputs)
            hooks.attach(self.parts.prelude[-1], after=keep_generator)
            (_, embedded), _ = self.first_inputs(self.parts.adapter, tokens, **inputs)
        restore_generator(seen["generator"])  # the model drew its first state; `initial` draws it again
        samples = inputs.get("num_steps_pair") is None
        return Context(embedded, seen["block"], tokens, self._counts(inputs)[0], samples)

    def initial(self, context: Context) -> Tensor:
        start = self.module.initialize_state(context.embedded)
        if context.samples:
            self.module.randomized_iteration_sampler()
        return start

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        with torch.no_grad() if self.truncates_gradients and t < context.without else nullcontext():
            h = self.core_in(self.parts.adapter(state, context.embedded))
            return self._blocks(h, self.parts.core_block, len(self.parts.prelude), context)

    def decode(self, state: Tensor, context: Context) -> Tensor:
        before = len(self.parts.prelude) + len(self.parts.core_block)
        return self.logits_of(self._blocks(self.parts.C(state), self.parts.coda, before, context), context)

    def logits_of(self, h: Tensor, context: AnyContext) -> Tensor:
        config = self.module.config
        logits = self.module.lm_head(self.parts.ln_f(h)).float() * config.init.logit_scale
        cap = config.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def loop_ends(self) -> tuple[nn.Module, nn.Module]:
        return self.parts.adapter, self.parts.core_block[-1]

    def _blocks(self, h: Tensor, blocks: Any, before: int, context: Context) -> Tensor:
        """The stream after these blocks, of which the first is the model's number `before`."""
        args, kwargs = context.block_inputs
        values = self.module.value_embeds
        for number, block in enumerate(blocks, before):
            value = values[str(number)](context.tokens) if str(number) in values else None
            h = block(h, *args, ve=value, **kwargs)
        return h

    def _counts(self, inputs: Mapping[str, Any]) -> tuple[int, int]:
        """The numbers of iterations without and with gradients."""
        pair = inputs.get("num_steps_pair")
        if pair is not None:
            without, along = (*step_counts(pair, "num_steps_pair"), 0)[:2]
            return without, along
        with torch.random.fork_rng():
            without, along = self.module.randomized_iteration_sampler()
        return int(without), int(along)


def adapt(module: nn.Module) -> Parcae:
    """The adapter of a Parcae.

    Raises:
        LoopscopeError: it lacks parts of the published one.
    """
    parts: Any = getattr(module, "transformer", {})
    lacking = [name for name in _PARTS if not isinstance(parts, nn.ModuleDict) or name not in parts]
    if not lacking and not len(parts["prelude"]):  # pyright: ignore[reportArgumentType]
        lacking = ["prelude.0"]
    if lacking:
        raise LoopscopeError(
            "a Parcae must have the parts of the published one in transformer, to be wrapped without a body, "
            f"but lacks {', '.join(lacking)}. Name the part that repeats: ls.wrap(model, body=...)."
        )
    return Parcae(module)
