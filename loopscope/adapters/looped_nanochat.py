"""looped_nanochat: a small chat model whose class is named GPT, with a prelude, recurrent blocks
and a coda.

An iteration joins the prelude's output and the state (`inject`, unless the model passes the state
through), applies the blocks `transformer.recur` and the norm `norm_recur`. The state starts as the
prelude's output, as noise, or as the input warm_start_state=. Where gradients are needed, the model
stops them before the last `bptt_k` iterations. Many other models are named GPT: this one is told by
its parts.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..common.rng import generator_state, restore_generator
from ..core.hooks import TemporaryHooks
from .base import Adapter
from .forward_hooks import replaced_forward

_PARTS = ("norm_recur", "_state_transfer", "_predict", "window_sizes")


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    embedded: Tensor
    """(batch, position, width): after the prelude."""
    warm_start: Tensor | None
    """The first state, if it was passed."""
    angles: Any
    """Cosines and sines of the positions."""
    count: int
    """The number of iterations that the model runs by itself."""


class LoopedNanochat(Adapter):
    """looped_nanochat's GPT."""

    family = "an iteration joins the prelude's output and the state, and applies the blocks and a norm"
    followed_inputs = ("num_recur", "warm_start_state")

    @property
    def iterations(self) -> int:
        return int(self.module.config.train_recur_mean)

    def depth(self, tokens: Any, inputs: Mapping[str, Any]) -> int:
        count = inputs.get("num_recur")
        return self.iterations if count is None else int(count)

    @property
    def blocks(self) -> Any:
        """The blocks of an iteration."""
        return self.module.transformer.recur

    @property
    def opening(self) -> nn.Module:
        """The first module of an iteration."""
        return self.module.inject if hasattr(self.module, "inject") else self.blocks[0]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with _short_angles(self.module):
            return super().forward(*args, **kwargs)

    def logits_in(self, output: Any) -> Any:
        return output[0]

    def encode(self, tokens: Tensor, **inputs: Any) -> Context:
        seen: dict[str, Any] = {}

        def keep_output(args: Any, kwargs: Any, output: Any) -> Any:
            seen.update(embedded=output, generator=generator_state())
            return output

        def keep_angles(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            seen["angles"] = args[1]
            return args, kwargs

        prelude = self.module.transformer.prelude
        with TemporaryHooks() as hooks, _short_angles(self.module):
            hooks.attach(prelude[-1] if len(prelude) else self.module.norm_emb, after=keep_output)
            for block in prelude[:1]:
                hooks.attach(block, before=keep_angles)
            (_, *rest), _ = self.first_inputs(self.opening, tokens, **inputs)
        restore_generator(seen["generator"])  # the model drew its first state; `initial` draws it again
        angles = seen["angles"] if len(prelude) else self._angles(tokens, rest)
        embedded, warm = seen["embedded"], inputs.get("warm_start_state")
        return Context(embedded, warm, angles, self.depth(tokens, inputs))

    def initial(self, context: Context) -> Tensor:
        if not hasattr(self.module, "inject"):
            return self.module._state_transfer(context.embedded, warm_start_state=context.warm_start)
        with replaced_forward(self.module.inject, lambda both: both):
            both = self.module._state_transfer(context.embedded, warm_start_state=context.warm_start)
        return self._start(both, context.embedded)

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        h = self.module._state_transfer(context.embedded, s=self.core_in(state))
        windows = self.module.window_sizes[len(self.module.transformer.prelude) :]
        for block, window in zip(self.blocks, windows, strict=False):
            h = block(h, context.angles, window, None, None)
        h = self.module.norm_recur(h)
        last = self.module.config.bptt_k
        cut = self.truncates_gradients and last is not None and t < context.count - last
        return h.detach() if cut else h

    def decode(self, state: Tensor, context: Context) -> Tensor:
        return self.module._predict(state, context.angles)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        return self.decode(h, context)

    def loop_ends(self) -> tuple[nn.Module, nn.Module]:
        return self.opening, self.module.norm_recur

    def carried(self, first_input: Tensor) -> Tensor:
        """The second half of what `inject` receives; all that the first block receives."""
        return first_input.chunk(2, -1)[1] if hasattr(self.module, "inject") else first_input

    def initial_from_call(self, first_input: Tensor, embedded: Tensor | None) -> Tensor:
        return self.carried(first_input)

    def _start(self, first_input: Tensor, embedded: Tensor) -> Tensor:
        """The first state in the first input of the loop's first module.

        Raises:
            LoopscopeError: the other half of that input isn't the prelude's output.
        """
        if not torch.equal(first_input.chunk(2, -1)[0], embedded):
            raise LoopscopeError(
                "inject must receive the prelude's output and then the state, as in looped_nanochat, but its "
                "first half is something else. Record it by its body: ls.wrap(model, body=[...])."
            )
        return self.carried(first_input)

    def _angles(self, tokens: Tensor, rest: list[Any]) -> Any:
        """The angles, of a model without a prelude."""
        return rest[0] if rest else tuple(x[:, : tokens.shape[1]] for x in (self.module.cos, self.module.sin))


@contextmanager
def _short_angles(module: Any) -> Iterator[None]:
    """Inside the with-block the angles are in bfloat16, without which the model refuses to run,
    also in a copy in float64; angles that bfloat16 would round stay as they are."""
    before: dict[str, Tensor] = {name: module._buffers[name] for name in ("cos", "sin")}
    short = {name: x.bfloat16() for name, x in before.items()}
    if all(torch.equal(x.to(before[name].dtype), before[name]) for name, x in short.items()):
        module._buffers.update(short)
    try:
        yield
    finally:
        module._buffers.update(before)


def recognises(module: Any) -> bool:
    """Whether a GPT has the parts of looped_nanochat's."""
    parts = getattr(module, "transformer", {})
    named = isinstance(parts, nn.ModuleDict) and {"prelude", "recur", "coda"} <= set(parts)
    return named and all(hasattr(module, name) for name in _PARTS) and {"cos", "sin"} <= set(module._buffers)


def adapt(module: nn.Module) -> LoopedNanochat:
    """The adapter of looped_nanochat's GPT.

    Raises:
        LoopscopeError: it is another model of that name.
    """
    if not recognises(module):
        raise LoopscopeError(
            "a GPT must have the parts of looped_nanochat's (transformer.prelude, recur and coda, "
            f"{', '.join(_PARTS)}) to be wrapped without a body, but hasn't. If it loops, name the part "
            "that repeats: ls.wrap(model, body=...)."
        )
    return LoopedNanochat(module)
