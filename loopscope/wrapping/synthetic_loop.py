"""SyntheticLoop: a loop put into a feed-forward model, as the four functions.

Nothing is trained and nothing of the model is changed: its own forward runs, in which some of its
layers run in another number or another order. What comes before them and after them, and what each
layer receives besides the state, is the model's own.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..adapters.base import Adapter
from ..adapters.forward_hooks import naming_unknown_inputs, replaced_forward
from ..adapters.forward_inputs import check_no_cache, without_cache
from ..common.errors import LoopscopeError
from ..common.rng import generator_state, restore_generator
from ..core.output_logits import find_logits
from ..core.sites import get_at, modules_of
from ..core.turns import parts_of, turn
from .layer_calls import LayerCall, LayerCalls


@dataclass(frozen=True)
class LayerContext:
    """What an iteration reads besides the state."""

    calls: Sequence[LayerCall]
    """Of each layer, in the model's own pass."""
    first: Tensor
    """(batch, position, width): what the first layer received."""
    once: Tensor
    """(batch, position, width): what the last layer returned in that pass."""
    in_place: bool
    """Whether a layer writes into the state that it receives."""
    tokens: Any
    inputs: dict[str, Any]
    """Of the whole model."""


class SyntheticLoop(Adapter):
    """The four functions of a feed-forward model with a loop in it. A subclass gives `iterations`,
    `family` and `advance`."""

    body_receives_state = True

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        """`names`: of the layers, in the order in which the model calls them."""
        super().__init__(module)
        self.names = list(names)
        self.task = getattr(module, "task", None)

    def advance(self, state: Tensor, context: LayerContext, t: int) -> Tensor:
        """states[t + 1] from states[t]."""
        raise NotImplementedError(f"{type(self).__name__} must define advance(state, context, t).")

    def read(self, state: Tensor, context: LayerContext) -> Tensor:
        """What the rest of the model reads from a state; by default the state."""
        return state

    @property
    def vocabulary(self) -> int | None:
        return getattr(self.module, "vocabulary", None) or super().vocabulary

    def check_inputs(self, tokens: Any, inputs: Any) -> None:
        """Every input is followed, as the model's own forward runs; but no cache of another
        pass."""
        check_no_cache(inputs)

    def encode(self, tokens: Any, **inputs: Any) -> LayerContext:
        """The model's own pass, up to the last of the layers.

        Raises:
            LoopscopeError: the model doesn't call the layers once, one after another, each with
                what the one before returned; or a cache was passed.
        """
        calls, before = LayerCalls(self.names, self.layers()), generator_state()

        def begin() -> None:
            nonlocal before
            before, self.clock.hidden = generator_state(), True

        def end(output: Any) -> Any:
            raise _Reached

        with turn(parts_of(self)), calls.observed(begin, end):
            try:
                self._run(tokens, inputs)
            except _Reached:
                restore_generator(before)
            finally:
                self.clock.hidden = False
        calls.check_complete(type(self.module).__name__)
        return self._context(calls, tokens, inputs)

    def initial(self, context: LayerContext) -> Tensor:
        return context.first

    def step(self, state: Tensor, context: LayerContext, t: int) -> Tensor:
        return self.advance(state, context, t)

    def decode(self, state: Tensor, context: LayerContext) -> Tensor:
        before, last = generator_state(), len(self.names) - 1

        def output_of(number: int) -> Any:
            if number < last:
                return context.calls[number].output
            restore_generator(before)
            self.clock.hidden = False
            return context.calls[last].returning(self.read(state, context))

        return self._logits_with(self.layers(), output_of, context)

    def logits_of(self, h: Tensor, context: LayerContext) -> Tensor:
        """The model's own forward without any layer: every member of the stack gives `h`.

        Raises:
            LoopscopeError: the layers aren't members of a list of modules.
        """
        stack: nn.Module = self.module.get_submodule(self.names[-1].rpartition(".")[0])
        kind = type(self.layers()[-1])
        members = [layer for layer in stack.children() if type(layer) is kind]
        if not isinstance(stack, nn.ModuleList | nn.Sequential):
            return super().logits_of(h, context)
        return self._logits_with(members, lambda number: context.calls[-1].returning(h), context)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own forward with the loop in it: its output in its own form."""
        tokens, rest = (args[0], args[1:]) if args else (None, ())
        calls, before = LayerCalls(self.names, self.layers()), generator_state()

        def begin() -> None:
            nonlocal before
            before = generator_state()

        def end(output: Any) -> Any:
            restore_generator(before)  # the iterations draw what the layers drew
            with calls.paused():
                context = self._context(calls, tokens, kwargs)
                state = self.initial(context)
                for t in range(self.iterations):
                    state = self.advance(state, context, t)
                return calls.calls[-1].returning(self.read(state, context))

        with turn(parts_of(self)), calls.observed(begin, end):
            output = self._run(tokens, kwargs, *rest)
        calls.check_complete(type(self.module).__name__)
        return output

    def logits_in(self, output: Any) -> Any:
        logits = find_logits(output)
        if logits is None:
            raise LoopscopeError(
                f"the output of {type(self.module).__name__} must hold logits, but is a "
                f"{type(output).__name__} without a tensor of numbers. Wrap a model that returns them."
            )
        return logits

    def loop_ends(self) -> tuple[nn.Module, nn.Module]:
        raise LoopscopeError(
            "the loop of a synthetic loop isn't in the calls of its model's own forward. Record its passes: "
            "ls.record(model, tokens), or ls.generate(model, tokens)."
        )

    def layers(self) -> list[nn.Module]:
        """The layers, in the order of their names."""
        modules = modules_of(self.module)
        return [modules[name] for name in self.names]

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The model's own, by which a run knows its weights."""
        return self.module.state_dict(*args, **kwargs)

    def _context(self, calls: LayerCalls, tokens: Any, inputs: dict[str, Any]) -> LayerContext:
        assert calls.first is not None
        once = get_at(calls.calls[-1].output, calls.calls[-1].target)
        return LayerContext(calls.calls, calls.first, once, calls.in_place, tokens, inputs)

    def _run(self, tokens: Any, inputs: dict[str, Any], *further: Any) -> Any:
        has_cache = hasattr(self.config, "use_cache") or inputs.get("past_key_values") is not None
        inputs = without_cache(self.module, inputs) if has_cache else inputs
        with naming_unknown_inputs(self.module, inputs):
            return self.module(*(() if tokens is None else (tokens, *further)), **inputs)

    def _logits_with(
        self, layers: Sequence[nn.Module], output_of: Callable[[int], Any], context: LayerContext
    ) -> Tensor:
        """The logits of the model's own forward with given outputs in place of these layers'. What
        runs only to reach them isn't recorded."""
        before = generator_state()
        with turn(parts_of(self)), _replaced(layers, output_of):
            self.clock.hidden = True
            try:
                return self.logits_in(self._run(context.tokens, context.inputs))
            finally:
                if self.clock.hidden:  # the last layer wasn't reached, or nothing is to be recorded
                    restore_generator(before)
                self.clock.hidden = False


class _Reached(BaseException):
    """Ends a pass after the last layer; no `except Exception` in the model catches it."""


@contextmanager
def _replaced(layers: Sequence[nn.Module], output_of: Callable[[int], Any]) -> Iterator[None]:
    def replacement(number: int) -> Callable[..., Any]:
        return lambda *_, **__: output_of(number)

    with ExitStack() as stack:
        for number, layer in enumerate(layers):
            stack.enter_context(replaced_forward(layer, replacement(number)))
        yield
