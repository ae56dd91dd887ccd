"""Ouro, whose code comes with its checkpoint (Zhu et al. 2025, arXiv 2510.25741).

An iteration is a pass through all layers and the norm; the normalised state is fed back. The exit
gate reads every state but changes nothing: the released code runs all `total_ut_steps`. Its answer
is then read from the last state, or from an earlier one by a threshold on the gate or by the inputs
exit_threshold=, exit_at_step= and use_weighted_exit=: `run.output` is that answer, `run.logits[k]`
the read-out of states[k]. The order of norm, gate and head is read from the model's own forward.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..common.rng import generator_state, restore_generator
from ..halting.halting_record import Halting, gate_halting
from ..halting.model_rules import exit_rule
from ..halting.rule import Rule
from .base import Adapter
from .call_order import CallOrder, read_order
from .forward_hooks import Call, members, replaced_forward
from .forward_inputs import check_no_cache, dropped_cache, kept_positions, without_cache

_EXITS = ("exit_at_step", "exit_threshold", "use_weighted_exit")


@dataclass(frozen=True)
class Pass:
    """What an iteration reads besides the state."""

    embedded: Tensor
    """(batch, position, width)"""
    args: tuple[Any, ...]
    """Further inputs of every layer: mask, positions."""
    kwargs: dict[str, Any]
    tokens: Any
    inputs: Mapping[str, Any]
    gates: dict[int, Tensor] = field(default_factory=dict)
    """By iteration, what the exit gate gave when it last ran."""


class Ouro(Adapter):
    """The class OuroForCausalLM."""

    body_receives_state = True
    family = "an iteration is a pass through all layers and the norm, which is fed back"
    followed_inputs = (
        *("attention_mask", "position_ids", "cache_position", "inputs_embeds", "use_cache"),
        *("logits_to_keep", *_EXITS),
    )
    counter = "current_ut"
    """The argument of a layer that has the number of the iteration, if there is one."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self._order: CallOrder | None = None
        self._alike = True
        """Whether all iterations call the same parts."""
        self._layers_return_tuples = False

    @property
    def base(self) -> Any:
        """The model without its head."""
        return self.module.model

    @property
    def iterations(self) -> int:
        return int(self.base.total_ut_steps)

    @property
    def layers(self) -> list[nn.Module]:
        """The layers of an iteration."""
        return list(self.base.layers[: self.base.config.num_hidden_layers])

    def parts_to_read(self) -> Mapping[str, nn.Module]:
        outside = {name: part for name, part in members(self.module).items() if part is not self.base}
        return members(self.base) | outside

    def read_wiring(self, inputs: Mapping[str, Any], calls: Sequence[Call], logits: Tensor) -> None:
        parts = self.parts_to_read()
        core = {name for name, part in parts.items() if any(part is layer for layer in self.layers)}
        order = read_order([call.name for call in calls], core)
        self._alike = order is not None or self.iterations == 1
        others = set() if order is None else {*order.iteration, *order.after} - core
        if order is not None and all(call.takes_one_tensor for call in calls if call.name in others):
            self._order = order

    def encode(self, tokens: Tensor, **inputs: Any) -> Pass:
        kinds = {getattr(layer, "attention_type", None) for layer in self.layers}
        if len(kinds) > 1:
            raise LoopscopeError(
                "the layers of an Ouro model must share one mask to be iterated, but have "
                f"{len(kinds)} types of attention: {sorted(map(str, kinds))}. Record it by its "
                "body: ls.wrap(model, body=[...])."
            )
        check_no_cache(inputs)
        args, kwargs = dropped_cache(*self.first_inputs(self.loop_ends()[0], tokens, **inputs))
        return Pass(args[0] if args else kwargs["hidden_states"], args[1:], kwargs, tokens, inputs)

    def initial(self, context: Pass) -> Tensor:
        return context.embedded

    def step(self, state: Tensor, context: Pass, t: int) -> Tensor:
        kwargs = {name: value for name, value in context.kwargs.items() if name != "hidden_states"}
        if self.counter in kwargs:
            kwargs[self.counter] = t
        h, parts, layers = self.core_in(state), self.parts_to_read(), self.layers
        for name in self._names:
            part = parts[name]
            if any(part is layer for layer in layers):
                output = part(h, *context.args, **kwargs)
                self._layers_return_tuples = isinstance(output, tuple)
                h = output[0] if isinstance(output, tuple) else output
            elif part is self._gate:
                context.gates[t if self.clock.iteration is None else self.clock.iteration] = part(h)
            else:
                h = part(h)
        return h

    def decode(self, state: Tensor, context: Pass) -> Tensor:
        return self.logits_of(self._before_head(state), context)

    def logits_of(self, h: Tensor, context: Pass) -> Tensor:
        return self.module.lm_head(kept_positions(h, context.inputs))

    def logits_from_state(self, state: Tensor) -> Tensor:
        return self.module.lm_head(self._before_head(state))

    def answers_early(self, context: Pass, iterations: int) -> bool:
        if iterations == self.iterations:
            return True
        asked = [name for name in _EXITS if context.inputs.get(name) not in (None, False)]
        if asked:
            raise LoopscopeError(
                f"{asked[0]} says which of the model's own {self.iterations} iterations it answers from, but "
                f"iterations={iterations} was passed too. Leave one of them out; run.logits[k] is the "
                "read-out of each state."
            )
        return False

    def answer(self, states: Sequence[Tensor], context: Pass) -> Tensor:
        """The answer of the model's own forward, with these states in place of what it computes in
        the loop."""
        before, replay = generator_state(), _Replay(list(states[1:]), dict(context.gates))
        last, tuples = self.loop_ends()[1], self._layers_return_tuples
        layers, between = self.layers, [part for part in self._between if part is not self._gate]

        def returns_state(*args: Any, **kwargs: Any) -> Any:
            if replay.finished:  # called once more, after the loop
                return type(last).forward(last, *args, **kwargs)
            state = replay.next_state()
            if replay.finished:
                restore_generator(before)
                self.clock.hidden = False
            return (state,) if tuples and any(last is layer for layer in layers) else state

        def layer_passes(*args: Any, **kwargs: Any) -> Any:
            h = args[0] if args else kwargs["hidden_states"]
            return (h,) if tuples else h

        with ExitStack() as stack:
            for part in layers:
                stack.enter_context(replaced_forward(part, layer_passes))
            for part in between:
                stack.enter_context(replaced_forward(part, lambda h: h))
            if any(part is self._gate for part in self._between):
                stack.enter_context(replaced_forward(self._gate, partial(replay.gate, self._gate)))
            stack.enter_context(replaced_forward(last, returns_state))
            self.clock.hidden = True
            stack.callback(setattr, self.clock, "hidden", False)
            inputs = without_cache(self.module, context.inputs)
            return self.logits_in(self.module(context.tokens, **inputs))

    def read_outs(self, state: Tensor, context: Pass) -> tuple[Tensor, Tensor] | None:
        if context.inputs.get("use_weighted_exit"):  # an average, which rounds
            return None
        same = [state] * (self.iterations + 1)  # whichever it answers from
        return self.decode(state, context), self.answer(same, context)

    def loop_ends(self) -> tuple[nn.Module, nn.Module]:
        if not self._alike:
            return self.layers[0], self.layers[-1]
        parts = self.parts_to_read()
        names = [name for name in self._names if parts[name] is not self._gate]
        return parts[names[0]], parts[names[-1]]

    @property
    def halting_unit(self) -> nn.Module | None:
        return self._gate

    @property
    def rule(self) -> Rule | None:
        return None if self._gate is None else exit_rule(self._threshold, self.exit_probability)

    def exit_probability(self, state: Tensor) -> Tensor:
        """(batch, position): the probability of stopping after the iteration that returned
        `state`."""
        return torch.sigmoid(self._gate(state)[..., 0])

    def halting(self, run: Any) -> Halting | None:
        if self._gate is None:
            return None
        asked = run.inputs.get("exit_threshold")
        threshold = self._threshold if asked is None else float(asked)
        return gate_halting(run, self.exit_probability, threshold)

    @property
    def _gate(self) -> Any:
        return getattr(self.base, "early_exit_gate", None)

    @property
    def _threshold(self) -> float:
        """1, which no iteration but the last reaches, where the model has none."""
        own = getattr(self.config, "early_exit_threshold", None)
        threshold = getattr(self.module, "early_exit_threshold", own)
        return 1.0 if threshold is None else float(threshold)

    @property
    def _names(self) -> tuple[str, ...]:
        """The names of the parts of an iteration, in their order."""
        if self._order is not None:
            return self._order.iteration
        parts, gate = self.parts_to_read(), [] if self._gate is None else [self._gate]
        names = {id(part): name for name, part in parts.items()}
        return tuple(names[id(part)] for part in [*self.layers, self.base.norm, *gate])

    @property
    def _between(self) -> list[nn.Module]:
        """The parts of an iteration that aren't layers."""
        parts, layers = self.parts_to_read(), self.layers
        return [parts[name] for name in self._names if all(parts[name] is not layer for layer in layers)]

    def _before_head(self, h: Tensor) -> Tensor:
        """What comes between the last state and the head, where the norm is no part of the loop."""
        parts = self.parts_to_read()
        for name in () if self._order is None else self._order.after:
            if parts[name] is self.module.lm_head:
                break
            h = h if parts[name] is self._gate else parts[name](h)
        return h


class _Replay:
    """The states and gates of a pass, in the order in which the model asks for them."""

    def __init__(self, states: list[Tensor], gates: dict[int, Tensor]) -> None:
        self.states, self.gates, self.done = states, gates, 0

    @property
    def finished(self) -> bool:
        return self.done == len(self.states)

    def next_state(self) -> Tensor:
        self.done += 1
        return self.states[self.done - 1]

    def gate(self, module: nn.Module, h: Tensor) -> Tensor:
        """What the gate gave for the state last returned; a state of an earlier run is judged
        anew."""
        given = self.gates.get(self.done - 1)
        return type(module).forward(module, h) if given is None else given


def adapt(module: nn.Module) -> Ouro:
    """The adapter of an OuroForCausalLM."""
    return Ouro(module)
