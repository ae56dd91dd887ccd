"""Huginn, whose code comes with its checkpoint (Geiping et al. 2025, arXiv 2502.05171), and models
of its class that are wired otherwise, such as retrofitted Llama and OLMo (arXiv 2511.07384).

An iteration concatenates the state and the embedded input, projects them (`transformer.adapter`)
and applies `core_block`. Before the loop comes the prelude; after it in Huginn the norm, the coda,
the norm again and the head. The first state is random: record with a seed. The released code runs
all iterations without gradients, unless it receives a pair num_steps=(without, with).

The order of the parts, which half of the adapter's input is the state, and where the first state
comes from are read from the model's own forward.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..common.rng import generator_state, restore_generator
from ..core.hooks import TemporaryHooks
from .base import Adapter
from .forward_hooks import Call, Inputs, members
from .forward_inputs import check_no_cache, dropped_cache
from .huginn_wiring import Wiring, draws_start, read_wiring, stream, watched_start, without_noise
from .step_counts import step_counts

_ALL_ITERATIONS = 10**9


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    embedded: Tensor
    """(batch, position, width): after the prelude."""
    block_inputs: Inputs
    """Of a block: its stream, the angles, its number, the mask, the cache."""
    start: Tensor | None
    """The first state; None if `initial` draws it."""
    scale: float
    """Standard deviation of the random first state."""
    without: int
    """The number of iterations without gradients."""
    samples: bool
    """Whether the model draws its number of iterations after the first state."""
    wiring: Wiring


class Huginn(Adapter):
    """Huginn, class RavenForCausalLM."""

    family = "an iteration is the adapter, which joins state and input, and the core blocks"
    followed_inputs = (
        *("num_steps", "input_states", "init_scale", "attention_mask", "position_ids", "cache_position"),
        *("input_embeds", "use_cache"),
    )

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self._wirings: dict[Any, Wiring] = {}
        self._starts: list[tuple[Tensor, Tensor]] = []

    @property
    def parts(self) -> Any:
        """The model's prelude, adapter, core blocks, coda and norm."""
        return self.module.transformer

    @property
    def iterations(self) -> int:
        return int(self.module.config.mean_recurrence)

    def check_inputs(self, tokens: Any, inputs: Mapping[str, Any]) -> None:
        super().check_inputs(tokens, inputs)
        if inputs.get("num_steps") is not None:
            step_counts(inputs["num_steps"], "num_steps")

    def depth(self, tokens: Any, inputs: Mapping[str, Any]) -> int:
        steps = inputs.get("num_steps")
        if steps is not None:
            return sum(step_counts(steps, "num_steps"))
        if self._samples(inputs):
            return sum(self._iteration_draw(tokens, inputs))
        known = self._wirings.get(self._key(inputs))
        return self.iterations if known is None or known.count is None else known.count

    def parts_to_read(self) -> Mapping[str, nn.Module]:
        others = {name: part for name, part in members(self.module).items() if name[:11] != "transformer"}
        return members(self.parts) | others

    def model_logits(self, tokens: Any, inputs: Mapping[str, Any]) -> Tensor:
        with watched_start(self.module) as self._starts:
            return super().model_logits(tokens, inputs)

    def read_wiring(self, inputs: Mapping[str, Any], calls: Sequence[Call], logits: Tensor) -> None:
        wiring = read_wiring(self.module, calls, logits)
        noise = bool(getattr(self.config, "test_time_noise", 0))
        drawn = draws_start(wiring, calls, self._starts, noisy=noise)
        self._wirings[self._key(inputs)] = replace(wiring, redraws=drawn)

    def encode(self, tokens: Tensor, **inputs: Any) -> Context:
        check_no_cache(inputs)
        wiring, parts = self._wiring(tokens, inputs), self.parts_to_read()
        before = generator_state()
        seen: dict[str, Any] = {"generator": before}

        def keep_inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            seen.setdefault("block", (args, kwargs))
            return args, kwargs

        def keep_output(args: Any, kwargs: Any, output: Any) -> Any:
            seen.update(embedded=stream(output), generator=generator_state())
            return output

        with TemporaryHooks() as hooks, without_noise(self.module):
            for block in [*self.parts.prelude[:1], *self.parts.core_block[:1]]:
                hooks.attach(block, before=keep_inputs)
            for block in self.parts.prelude[-1:]:
                hooks.attach(block, after=keep_output)
            try:
                first, _ = self.first_inputs(parts[wiring.first[0]], tokens, **inputs)
            except BaseException:
                restore_generator(before)
                raise
        state, embedded = wiring.split(first[0]) if wiring.joins_first else (first[0], seen["embedded"])
        if wiring.redraws:  # the model drew its first state; `initial` draws the same one again
            restore_generator(seen["generator"])
        steps, without = inputs.get("num_steps"), _ALL_ITERATIONS
        if steps is not None and len(step_counts(steps, "num_steps")) > 1:
            without = step_counts(steps, "num_steps")[0]
        elif self._samples(inputs):
            without = self._iteration_draw(tokens, inputs)[0]
        return Context(
            embedded,
            dropped_cache(*seen.get("block", ((None,), {}))),
            None if wiring.redraws else state,
            inputs.get("init_scale", 1.0),
            without,
            self._samples(inputs),
            wiring,
        )

    def initial(self, context: Context) -> Tensor:
        if context.start is not None:
            return context.start.clone()
        start = self._drawn(context.embedded, context.scale)
        if context.samples:
            self.module.randomized_iteration_sampler()
        return start

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        wiring, parts = context.wiring, self.parts_to_read()
        number = len(self.parts.prelude) + t * len(self.parts.core_block)
        with torch.no_grad() if self.truncates_gradients and t < context.without else nullcontext():
            if getattr(self.config, "test_time_noise", 0):
                state = self.module._maybe_inject_noise(state, t)
            names = wiring.iteration if t else wiring.first
            h = state if names[0] == "adapter" else self.core_in(state)
            for name in names:
                if name == "adapter":
                    h = self.core_in(parts[name](wiring.joined(h, context.embedded)))
                elif name.startswith("core_block."):
                    h = self._block(parts[name], h, number, context)
                    number += 1
                else:
                    h = parts[name](h)
        return h

    def decode(self, state: Tensor, context: Context) -> Tensor:
        h, number, parts = state, 0, self.parts_to_read()
        for name in context.wiring.before_head:
            if name.startswith("coda."):
                number -= 1
                h = self._block(parts[name], h, number, context)
            else:
                h = parts[name](h)
        return self.logits_of(h, context)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        parts = self.parts_to_read()
        for name in context.wiring.head:
            h = parts[name](h)
        return h if context.wiring.dtype is None else h.to(context.wiring.dtype)

    def loop_ends(self) -> tuple[nn.Module, nn.Module]:
        names, parts = self._any_wiring.iteration, self.parts_to_read()
        blocks = [name for name in names if name.startswith("core_block.")]
        return parts[names[0] if self._any_wiring.joins_first else blocks[0]], parts[names[-1]]

    def carried(self, first_input: Tensor) -> Tensor | None:
        return self._any_wiring.split(first_input)[0] if self._any_wiring.joins_first else None

    def exit_inputs(self, iteration: int) -> Mapping[str, Any]:
        return {"num_steps": iteration + 1}

    def initial_from_call(self, first_input: Tensor, embedded: Tensor | None) -> Tensor:
        return self._any_wiring.split(first_input)[0] if self._any_wiring.joins_first else first_input

    @property
    def _any_wiring(self) -> Wiring:
        """A wiring that was read from the model, else the published one."""
        return next(iter(self._wirings.values()), Wiring.published(self.module))

    def _key(self, inputs: Mapping[str, Any]) -> Any:
        names = sorted(name for name, value in inputs.items() if value is not None)
        return (*names, self.training)

    def _wiring(self, tokens: Any, inputs: Mapping[str, Any]) -> Wiring:
        """How the model is wired for such inputs; its own forward runs once to tell."""
        key = self._key(inputs)
        if key not in self._wirings:
            before, counters = generator_state(), list(zip(self.clock.axes, self.clock.index, strict=True))
            self.clock.hidden = True
            try:
                self.model_logits(tokens, inputs)
            finally:
                self.clock.hidden = False
                self.clock.set(*counters)
                restore_generator(before)
        return self._wirings[key]

    def _block(self, block: nn.Module, h: Tensor, number: int, context: Context) -> Tensor:
        """A block's output, with its number where the model passes one."""
        (_, *args), kwargs = context.block_inputs
        args = [torch.tensor(number) if _is_number(one) else one for one in args]
        kwargs = {name: torch.tensor(number) if _is_number(one) else one for name, one in kwargs.items()}
        return stream(block(h, *args, **kwargs))

    def _samples(self, inputs: Mapping[str, Any]) -> bool:
        """Whether the model draws its number of iterations, as in training."""
        samples = hasattr(self.module, "randomized_iteration_sampler")
        return samples and self.training and inputs.get("num_steps") is None

    def _drawn(self, like: Tensor, scale: float) -> Tensor:
        draw = self.module.initialize_state
        return draw(like, scale=scale) if "scale" in signature(draw).parameters else draw(like)

    def _iteration_draw(self, tokens: Tensor, inputs: Mapping[str, Any]) -> tuple[int, int]:
        """The numbers of iterations without and with gradients that the model is about to draw in
        training."""
        with torch.random.fork_rng():
            if inputs.get("input_states") is None:
                weight = self.parts.wte.weight
                self._drawn(weight.new_empty(*tokens.shape, weight.shape[1]), inputs.get("init_scale", 1.0))
            without, with_gradient = self.module.randomized_iteration_sampler()
        return int(without), int(with_gradient)


def _is_number(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 0 and not value.is_floating_point()


def adapt(module: nn.Module) -> Huginn:
    """The adapter of a RavenForCausalLM."""
    return Huginn(module)
