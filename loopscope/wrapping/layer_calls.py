"""LayerCalls: what each layer of a synthetic loop received and returned in the model's own pass.

Masks, rotary angles and whatever else a layer receives besides the state are thereby the model's
own, layer by layer.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..adapters.forward_inputs import dropped_cache
from ..common.errors import LoopscopeError
from ..core.hooks import TemporaryHooks
from ..core.sites import Path, find_tensor, float_tensors, get_at, put_at
from .tensor_match import same_memory, same_values


@dataclass
class LayerCall:
    """A call of a layer, and where the state is in it."""

    inputs: tuple[tuple[Any, ...], dict[str, Any]]
    source: Path
    """Where the layer received the state."""
    output: Any
    target: Path
    """Where it returned the next one."""

    def computed(self, layer: nn.Module, x: Tensor) -> Tensor:
        """What the layer makes of another state."""
        args, kwargs = put_at(self.inputs, self.source, x)
        return get_at(layer(*args, **kwargs), self.target)

    def returning(self, x: Tensor) -> Any:
        """The layer's output with another state."""
        return put_at(self.output, self.target, x)


class LayerCalls:
    """The calls of layers in one pass of a model, checked as they come: each layer once, in their
    order, with what the one before returned."""

    def __init__(self, names: Sequence[str], layers: Sequence[nn.Module]) -> None:
        self.names, self.layers = list(names), list(layers)
        self.calls: list[LayerCall] = []
        self.first: Tensor | None = None
        """What the first layer received."""
        self.in_place = False
        """Whether a layer writes into the state that it receives."""
        self._paused = False

    @property
    def complete(self) -> bool:
        """Whether every layer was called."""
        return len(self.calls) == len(self.layers)

    @contextmanager
    def observed(self, begin: Callable[[], None], end: Callable[[Any], Any]) -> Iterator[None]:
        """Watch the calls inside the with-block.

        Arguments:
            begin: is called before the first layer.
            end: is called with the output of the last layer, and returns the output to use.
        """
        with TemporaryHooks() as hooks:
            for number in range(len(self.layers)):
                self._attach(hooks, number, begin, end)
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Calls inside the with-block aren't those of the pass."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def check_complete(self, kind: str) -> None:
        """Raise LoopscopeError if a layer wasn't called."""
        if not self.complete:
            raise LoopscopeError(
                f"the forward of {kind} must call every layer of body once, but didn't call "
                f"'{self.names[len(self.calls)]}' with these inputs. Leave it out of body."
            )

    def _attach(self, hooks: TemporaryHooks, number: int, begin: Any, end: Any) -> None:
        received: list[tuple[Any, list[Any]]] = []

        def before(args: Any, kwargs: Any) -> Any:
            if not self._paused:
                self._check_turn(number)
                if number == 0:
                    begin()
                copies = [(path, tensor, tensor.clone()) for path, tensor in float_tensors((args, kwargs))]
                received[:] = [((args, kwargs), copies)]
            return args, kwargs

        def after(args: Any, kwargs: Any, output: Any) -> Any:
            if self._paused:
                return output
            self._add(number, *received[0], output)
            return end(output) if self.complete else output

        hooks.attach(self.layers[number], before=before, after=after)

    def _check_turn(self, number: int) -> None:
        if number == len(self.calls):
            return
        name = self.names[number]
        if number < len(self.calls):
            what = f"'{name}' was called again"
        else:
            what = f"'{name}' was called before '{self.names[len(self.calls)]}'"
        raise LoopscopeError(
            f"the layers of body must be called once in a pass, in the order of their names, but {what}. "
            "Where the model repeats them itself, wrap it without repeat or order: ls.wrap(model, body=...)."
        )

    def _add(self, number: int, inputs: Any, copies: list[Any], output: Any) -> None:
        target = find_tensor(output, copies[0][2] if copies else None)
        source = self._source(number, copies, None if target is None else get_at(output, target))
        if target is None or source is None:
            raise LoopscopeError(
                "a layer must receive and return a tensor of one shape, the state, but "
                f"'{self.names[number]}' doesn't. Choose layers that do."
            )
        live, copy = next((tensor, copy) for path, tensor, copy in copies if path == source)
        self.in_place = self.in_place or same_memory(live, get_at(output, target))
        if number == 0:
            self.first = copy
        args, kwargs = put_at(inputs, source, copy)
        self.calls.append(LayerCall(dropped_cache(args, kwargs), source, output, target))

    def _source(self, number: int, copies: list[Any], returned: Tensor | None) -> Path | None:
        """Where the state is in what a layer received: what the layer before returned."""
        if returned is None:
            return None
        if number == 0:
            return next((path for path, tensor, _ in copies if tensor.shape == returned.shape), None)
        call = self.calls[-1]
        before = get_at(call.output, call.target)
        others = [tensor for _, tensor in float_tensors(call.output) if tensor is not before]
        alike = [(path, tensor) for path, tensor, _ in copies if tensor.shape == before.shape]
        carried = [path for path, tensor in alike if any(tensor is other for other in others)]
        same = [path for path, tensor in alike if same_values(tensor, before)]
        one, other = self.names[number - 1], self.names[number]
        if carried:
            raise LoopscopeError(
                f"the layers of body must pass on one tensor, but '{other}' receives another one of its "
                f"shape from '{one}'. A synthetic loop can't carry several; choose layers that pass on one."
            )
        if not same:
            raise LoopscopeError(
                f"each layer of body must receive what the one before returned, but between '{one}' and "
                f"'{other}' the model does something else to it. Choose layers with nothing between them, or "
                "a module that contains both."
            )
        return same[0]
