"""What the official code of HRM and of TRM shares: two states in a carry, which a call of the model
takes and returns; segments; and a Q-head.

A call is one segment: `H_cycles` iterations on the carry, whose rows start anew where they halted.
Further iterations are those of further segments. In evaluation no row halts before the last
segment; `run.halting` has where the Q-head, which reads the first position, would have halted it.
Positions of the puzzle's embedding come before the tokens.

`ls.record(model, tokens)` starts all rows. The model's own two arguments are inputs:
batch={"puzzle_identifiers": ...}, zeros by default, with whatever else a batch has besides
"inputs", which are the tokens; and carry=, of an earlier call.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..halting.halting_record import Halting, q_halting
from ..halting.model_rules import q_rule
from ..halting.rule import Rule
from .base import Adapter
from .high_low import State


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    embedded: Tensor
    """(batch, position, width): the puzzle's embedding first."""
    kwargs: dict[str, Any]
    """Further inputs of every call of a network: the rotary angles."""
    start: State


class CarryModel(Adapter):
    """The adapter of a model that is called with a carry and a batch. A subclass says which network
    updates the high state, which calls have gradients, and how many values of the Q-head decide."""

    fields = State._fields
    loop_sites = ("low_in", "low_out", "high_in")
    update_sites: ClassVar = {"high": (), "low": ("low_out",)}
    followed_inputs = ("carry", "batch")

    @property
    def inner(self) -> Any:
        """The model without the bookkeeping of its segments."""
        return self.module.inner

    @property
    def iterations(self) -> int:
        return int(self.module.config.H_cycles)

    @property
    def high_network(self) -> nn.Module:
        """The network that updates the high state."""
        raise NotImplementedError(f"{type(self).__name__} must define the property high_network.")

    def first_with_gradient(self, t: int) -> int:
        """The first of the L_cycles low calls of iteration t that has gradients; L_cycles + 1 if
        not even the high call has them."""
        raise NotImplementedError(f"{type(self).__name__} must define first_with_gradient(t).")

    def check_inputs(self, tokens: Any, inputs: Mapping[str, Any]) -> None:
        super().check_inputs(tokens, inputs)
        batch = inputs.get("batch")
        if batch is not None and (not isinstance(batch, Mapping) or "inputs" in batch):
            given = sorted(batch) if isinstance(batch, Mapping) else type(batch).__name__
            raise LoopscopeError(
                "batch must be a dictionary of what a batch has besides its 'inputs', which are the tokens, "
                f"but is {given}. Pass ls.record(model, tokens, batch={{'puzzle_identifiers': ids}})."
            )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own forward: of a carry and a batch, as it is, or of tokens."""
        if args and isinstance(args[0], Tensor):
            return super().forward(*self._arguments(args[0], kwargs))
        return super().forward(*args, **kwargs)

    def logits_in(self, output: Any) -> Any:
        return output[1]["logits"]

    def encode(self, tokens: Tensor, **inputs: Any) -> Context:
        (carry, data), _ = self.first_inputs(self.inner, *self._arguments(tokens, inputs))
        embedded = self.inner._input_embeddings(data["inputs"], data["puzzle_identifiers"])
        rotary = getattr(self.inner, "rotary_emb", None)
        start = State(carry.z_H, carry.z_L)
        return Context(embedded, {"cos_sin": None if rotary is None else rotary()}, start)

    def initial(self, context: Context) -> State:
        return context.start

    def step(self, state: State, context: Context, t: int) -> State:
        high, low = state
        count, first = self.module.config.L_cycles, self.first_with_gradient(t)
        if self.truncates_gradients and t % self.iterations == 0:
            high, low = high.detach(), low.detach()
        for cycle in self.clock.loop("low", range(count)):
            with self._gradients(cycle >= first):
                injected = self.low_in(high + context.embedded)
                low = self.low_out(self.inner.L_level(low, injected, **context.kwargs))
        with self._gradients(count >= first):
            high = self.high_network(high, self.high_in(low), **context.kwargs)
        return State(high, low)

    def decode(self, state: State, context: Context) -> Tensor:
        return self.logits_of(state.high, context)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        return self.logits_from_state(State(h, h))

    def logits_from_state(self, state: State) -> Tensor:
        return self.inner.lm_head(state.high)[:, self.inner.puzzle_emb_len :]

    def q_values(self, state: State) -> Tensor:
        """(batch, 2): the values of halting and of going on."""
        return self.inner.q_head(state.high[:, 0]).float()

    @property
    def halting_unit(self) -> nn.Module:
        return self.inner.q_head

    @property
    def rule(self) -> Rule:
        return q_rule(self.q_values, self.iterations)

    def halting(self, run: Any) -> Halting | None:
        return q_halting(run, self.iterations) if run.iterations >= self.iterations else None

    def _gradients(self, kept: bool) -> Any:
        return torch.no_grad() if self.truncates_gradients and not kept else nullcontext()

    def _arguments(self, tokens: Tensor, inputs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        batch = {"puzzle_identifiers": tokens.new_zeros(len(tokens)), **(inputs.get("batch") or {})}
        batch = {"inputs": tokens, **batch}
        if inputs.get("carry") is not None:
            return inputs["carry"], batch
        with torch.device(tokens.device):
            return self.module.initial_carry(batch), batch
