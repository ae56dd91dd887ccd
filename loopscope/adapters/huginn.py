"""Huginn, whose code comes with its checkpoint (Geiping et al. 2025, arXiv 2502.05171).

An iteration concatenates the state and the embedded input, projects them (`transformer.adapter`)
and applies `core_block`. Before the loop comes the prelude, after it the norm, the coda, the norm
again and the head. The first state is random: record with a seed. The released code runs all
iterations without gradients, unless it receives a pair num_steps=(without, with).
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..common.rng import generator_state, restore_generator
from ..core.hooks import TemporaryHooks
from .base import Adapter
from .forward_hooks import without_cache

_ALL_ITERATIONS = 10**9


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    embedded: Tensor
    """(batch, position, width): after the prelude."""
    angles: Tensor
    """Of the rotary position embedding."""
    mask: Any
    start: Tensor | None
    """The first state, if one was passed."""
    scale: float
    """Standard deviation of the random first state."""
    without: int
    """The number of iterations without gradients."""


class Huginn(Adapter):
    """Huginn, class RavenForCausalLM."""

    family = "an iteration is the adapter, which joins state and input, and the core blocks"

    @property
    def parts(self) -> Any:
        """The model's prelude, adapter, core blocks, coda and norm."""
        return self.module.transformer

    @property
    def iterations(self) -> int:
        return int(self.module.config.mean_recurrence)

    def depth(self, tokens: Any, inputs: Mapping[str, Any]) -> int:
        steps = inputs.get("num_steps")
        if steps is not None:
            return sum(int(part) for part in steps) if _is_pair(steps) else int(steps)
        return sum(self._iteration_draw(tokens, inputs)) if self.training else self.iterations

    def encode(self, tokens: Tensor, **inputs: Any) -> Context:
        steps = inputs.get("num_steps")
        without = int(steps[0]) if steps is not None and _is_pair(steps) else _ALL_ITERATIONS
        if steps is None and self.training:
            without = self._iteration_draw(tokens, inputs)[0]
        block_inputs: list[tuple[Any, ...]] = []

        def keep_inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            block_inputs.append((*args, *kwargs.values()))
            return args, kwargs

        before = generator_state()
        try:
            with TemporaryHooks() as hooks:
                hooks.attach(self.parts.prelude[0], before=keep_inputs)
                # The model draws its first state before the loop; `initial` draws it again.
                (joined,), _ = self.first_inputs(self.parts.adapter, tokens, **without_cache(inputs))
        finally:
            restore_generator(before)
        _, angles, _, mask, *_ = block_inputs[0]
        width = joined.shape[-1] // 2
        start, scale = inputs.get("input_states"), inputs.get("init_scale", 1.0)
        return Context(joined[..., width:], angles, mask, start, scale, without)

    def initial(self, context: Context) -> Tensor:
        if context.start is not None:
            return context.start.clone()
        return self.module.initialize_state(context.embedded, scale=context.scale)

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        parts, first = self.parts, len(self.parts.prelude) + t * len(self.parts.core_block)
        with torch.no_grad() if self.truncates_gradients and t < context.without else nullcontext():
            if getattr(self.config, "test_time_noise", 0):
                state = self.module._maybe_inject_noise(state, t)
            h = self.core_in(parts.adapter(torch.cat([state, context.embedded], dim=-1)))
            for number, block in enumerate(parts.core_block, first):
                h = block(h, context.angles, torch.tensor(number), context.mask, None)
        return h

    def decode(self, state: Tensor, context: Context) -> Tensor:
        h = self.parts.ln_f(state)
        for number, block in enumerate(self.parts.coda, 1):
            h = block(h, context.angles, torch.tensor(-number), context.mask, None)
        return self.logits_of(h, context)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        return self.module.lm_head(self.parts.ln_f(h)).float()

    def loop_ends(self) -> tuple[nn.Module, nn.Module]:
        return self.parts.adapter, self.parts.core_block[-1]

    def initial_from_call(self, first_input: Tensor, embedded: Tensor | None) -> Tensor:
        return first_input[..., : first_input.shape[-1] // 2]

    def _iteration_draw(self, tokens: Tensor, inputs: Mapping[str, Any]) -> tuple[int, int]:
        """The numbers of iterations without and with gradients that the model is about to draw in
        training."""
        with torch.random.fork_rng():
            if inputs.get("input_states") is None:
                embedded = self.parts.wte(tokens)
                self.module.initialize_state(embedded, scale=inputs.get("init_scale", 1.0))
            without, with_gradient = self.module.randomized_iteration_sampler()
        return int(without), int(with_gradient)


def _is_pair(steps: Any) -> bool:
    return hasattr(steps, "__len__") and len(steps) > 1


def adapt(module: nn.Module) -> Huginn:
    """The adapter of a RavenForCausalLM."""
    return Huginn(module)
