"""The adapter of a loop whose body is one module, which receives the state and returns the next."""

from typing import Any

from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..core.looped_model import Context
from ..core.sites import find_tensor, get_at, put_at
from .base import Adapter
from .forward_hooks import Inputs


class SingleBodyAdapter(Adapter):
    """A loop with one module as its body and nothing between its calls. A subclass gives `body`,
    `iterations`, `decode` and `family`."""

    def body(self) -> nn.Module:
        """The loop's body."""
        raise NotImplementedError(f"{type(self).__name__} must define body(), the module that repeats.")

    body_receives_state = True

    def loop_ends(self) -> tuple[nn.Module, nn.Module]:
        return self.body(), self.body()

    def encode(self, tokens: Any, **inputs: Any) -> Context:
        """The body's inputs at its first call, and the inputs of the whole model."""
        args, kwargs = self.first_inputs(self.body(), tokens, **inputs)
        return {"args": args, "kwargs": kwargs, "tokens": tokens, "inputs": inputs}

    def initial(self, context: Context) -> Tensor:
        """The tensor that the body receives first."""
        inputs = (context["args"], context["kwargs"])
        return get_at(inputs, _state_path(inputs))

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        """One call of the body, with its first inputs but for the state."""
        inputs = (context["args"], context["kwargs"])
        args, kwargs = put_at(inputs, _state_path(inputs), self.get_submodule("core_in")(state))
        output = self.body()(*args, **kwargs)
        path = find_tensor(output, state)
        assert path is not None
        return get_at(output, path)


def _state_path(inputs: Inputs) -> tuple[Any, ...]:
    path = find_tensor(inputs)
    if path is None:
        raise LoopscopeError(
            "the body of a loop must receive a floating-point tensor, but received none. Wrap the part "
            "that receives the state."
        )
    return path
