"""The arguments of `wrap` for a loop that was found: what the module's own passes show of its
state, its read-out and its number of iterations. Each was tried before it is suggested."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ..common.errors import LoopscopeWarning
from ..common.rng import generator_state, restore_generator
from ..core.copied import copied
from ..core.hooks import TemporaryHooks
from ..core.output_logits import find_logits
from ..core.preserved_state import preserved_state
from ..core.sites import float_tensors, modules_of
from ..core.turns import parts_of, turn
from ..runs.collector import Collector
from ..runs.keep import Keep
from ..runs.run import Run
from ..wrapping.recorded_module import carried_names, record_wrapped
from ..wrapping.substitution_check import substitution_mismatch
from ..wrapping.tensor_match import same_values
from ..wrapping.wrap_module import Wrapped, wrap
from .count_argument import count_argument

_SPATIAL = {1: ("position",), 2: ("row", "column"), 3: ("layer", "row", "column")}
"""The names of a convolution's axes after the channels."""


def wrap_arguments(
    module: nn.Module,
    body: str | Sequence[str],
    inner: Mapping[str, str],
    tokens: Any,
    inputs: Mapping[str, Any],
) -> dict[str, Any]:
    """The further arguments of `wrap`, by name; none where the module can't be recorded by this
    body, and without those that its passes don't show.

    Arguments:
        body, inner: those of the loop.
        tokens, inputs: of the module's forward.
    """
    before = generator_state()
    try:
        with turn(parts_of(module)), torch.no_grad(), preserved_state(module), warnings.catch_warnings():
            warnings.simplefilter("ignore", LoopscopeWarning)
            return _Trials(module, body, inner, tokens, inputs).arguments()
    except Exception:  # of loopscope, which can't record it, or of a module that has no numbers to compare
        return {}
    finally:
        restore_generator(before)


def _none_if_it_fails(trial: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a trial shows; nothing where the module can't be passed through as it needs."""
    try:
        return trial()
    except Exception:
        return {}


class _Call(NamedTuple):
    """A call of a module with weights."""

    name: str
    received: Tensor | None
    returned: Tensor
    matrix: bool
    """Whether its weights are a matrix."""


class _Trials:
    """Passes of a module with this body, and what they show."""

    def __init__(
        self,
        module: nn.Module,
        body: str | Sequence[str],
        inner: Mapping[str, str],
        tokens: Any,
        inputs: Mapping[str, Any],
    ) -> None:
        self.module, self.tokens, self.inputs = module, tokens, inputs
        self.options: dict[str, Any] = {"body": body, "inner": inner or None}

    def arguments(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        wrapped = self.wrapped()
        if len(wrapped.body) == 1 or wrapped.state.received_again:
            names = carried_names(wrapped, copied(self.tokens), copied(dict(self.inputs)))
            if names:
                found["state"] = tuple(names)
        run = self.recorded(wrapped, self.inputs)
        if "state" not in found and len(wrapped.body) > 1:
            found |= _none_if_it_fails(lambda: self.state_of_parts(wrapped))
        found |= self.axes(wrapped, run)
        found |= _none_if_it_fails(lambda: self.read_out(wrapped))
        return found | _none_if_it_fails(lambda: self.count(run.iterations))

    def wrapped(self, **options: Any) -> Wrapped:
        """The module with this body."""
        result = wrap(self.module, **self.options, **options)
        assert isinstance(result, Wrapped)
        return result

    def recorded(self, wrapped: Wrapped, inputs: Mapping[str, Any]) -> Run:
        """The run of a pass."""
        collector = Collector(Keep(), False, True, careful=True)
        tokens, given = copied(self.tokens), copied(dict(inputs))
        return record_wrapped(wrapped, tokens, given, (), edits=(), collector=collector)

    def iterations_with(self, inputs: Mapping[str, Any]) -> int:
        """How many iterations run with these inputs."""
        return self.recorded(self.wrapped(), inputs).iterations

    def count(self, iterations: int) -> dict[str, Any]:
        """The argument that sets the number of iterations."""
        name = count_argument(self.module, iterations, self.inputs, self.iterations_with)
        return {} if name is None else {"count": name}

    def state_of_parts(self, wrapped: Wrapped) -> dict[str, Any]:
        """The state by parts of the body, if each of them is read again and the last alone isn't
        all."""
        if substitution_mismatch(wrapped.iterated, self.tokens, self.inputs) is None:
            return {}
        parts = wrapped.body[::-1]
        words = [re.sub(r"\W", "_", part.rsplit(".", 1)[-1]) for part in parts]
        if len(set(words)) < len(words) or not all(word.isidentifier() for word in words):
            words = [f"part_{number}" for number in reversed(range(len(parts)))]
        named = dict(zip(words, parts, strict=True))
        other = self.wrapped(state=named).iterated
        return {} if substitution_mismatch(other, self.tokens, self.inputs) is not None else {"state": named}

    def axes(self, wrapped: Wrapped, run: Run) -> dict[str, Any]:
        """The axes of a convolutional net, where nothing else names them."""
        names, modules = run.states.axes[1:], modules_of(self.module)
        if "axis_1" not in names:
            return {}
        convolutions = [
            part for name in wrapped.body for part in modules[name].modules() if isinstance(part, _ConvNd)
        ]
        shape = run.states[run.iterations].shape
        channels = {size for part in convolutions for size in (part.in_channels, part.out_channels)}
        fits = shape[1] in channels and {len(part.kernel_size) for part in convolutions} == {len(shape) - 2}
        return {"axes": ("batch", "channel", *_SPATIAL[len(shape) - 2])} if fits else {}

    def read_out(self, wrapped: Wrapped) -> dict[str, Any]:
        """The module that returned the logits after the loop, and the norm that made what it read
        of the last state."""
        calls, last, output = self.calls_after_loop(wrapped)
        logits = find_logits(output)
        heads = [
            one for one in calls if one.matrix and logits is not None and same_values(one.returned, logits)
        ]
        if not heads:
            return {}
        read = heads[-1].received
        norms = [
            one.name
            for one in calls
            if not one.matrix and read is not None and same_values(one.returned, read)
            if any(same_values(one.received, state) for state in last if one.received is not None)
        ]
        return {"head": heads[-1].name} | ({"norm": norms[-1]} if norms else {})

    def calls_after_loop(self, wrapped: Wrapped) -> tuple[list[_Call], list[Tensor], Any]:
        """The calls of modules with weights after the loop's last iteration, in order, what that
        returned, and the output of the pass."""
        modules = modules_of(self.module)
        body = {part for name in wrapped.body for part in modules[name].modules()}
        end, last = modules[wrapped.body[-1]], list[Tensor]()
        calls: list[_Call] = []

        def attach(hooks: TemporaryHooks, name: str, part: nn.Module) -> None:
            matrix = any(weight.ndim > 1 for weight in part.parameters(recurse=False))

            def after(args: Any, kwargs: Any, output: Any) -> Any:
                received, returned = float_tensors((args, kwargs)), float_tensors(output)
                if part in body:
                    calls.clear()  # the loop goes on
                    if part is end:
                        last[:] = [tensor.clone() for _, tensor in returned]
                elif len(returned) == 1:
                    value = received[0][1].clone() if received else None
                    calls.append(_Call(name, value, returned[0][1].clone(), matrix))
                return output

            hooks.attach(part, after=after)

        with TemporaryHooks() as hooks:
            for part, name in {part: name for name, part in reversed(modules.items())}.items():
                if part in body or any(True for _ in part.parameters(recurse=False)):
                    attach(hooks, name, part)
            args = () if self.tokens is None else (copied(self.tokens),)
            return calls, last, self.module(*args, **copied(dict(self.inputs)))
