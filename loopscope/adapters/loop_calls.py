"""LoopCalls: how the loop of an adapted model is seen in the calls of its modules, for recording
passes that the model runs by itself: in generation, and where the four functions differ from it."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..core.state_tree import State
from .forward_hooks import Call


class LoopCalls:
    """Which modules begin and end an iteration, and where the state is in their calls."""

    module: Any
    body_receives_state = False
    """Whether the first module of an iteration receives the state itself."""

    def loop_ends(self) -> tuple[nn.Module, nn.Module]:
        """The first and the last module that an iteration calls; the last returns the primary
        tensor of the next state."""
        raise LoopscopeError(
            f"the adapter of {type(self.module).__name__} must define loop_ends() to record while the model "
            "generates, but doesn't. Record its passes one by one: ls.record(model, tokens)."
        )

    def loop_bodies(self) -> Sequence[nn.Module]:
        """Modules of which each call is an iteration, where an iteration isn't always a call of
        the same ones; empty: see `loop_ends`."""
        return ()

    def carried(self, first_input: Tensor) -> Tensor | None:
        """The primary tensor of the state in the input of an iteration's first module; None if it
        can't be told."""
        return first_input if self.body_receives_state else None

    def inner_loop_modules(self) -> dict[str, nn.Module]:
        """By inner axis, the module whose calls it counts."""
        return {}

    def extra_state_modules(self) -> dict[str, nn.Module]:
        """By further field of the state, the module whose last output in an iteration is its next
        value."""
        return {}

    def initial_from_call(self, first_input: Tensor, embedded: Tensor | None) -> State | None:
        """states[0] from the first input of the first module, and from the output of `embedding`;
        None if these don't tell it."""
        return first_input

    def embedding(self) -> nn.Module | None:
        """The token embedding, if `initial_from_call` needs its output."""
        return None

    def logits_from_state(self, state: State) -> Tensor | None:
        """The logits, if they depend on the state alone; else None."""
        return None

    def exit_inputs(self, iteration: int) -> Mapping[str, Any] | None:
        """The arguments by which the model's forward ends its loop after an iteration; None if it
        has none, or its halting unit decides."""
        return None

    def parts_to_read(self) -> Mapping[str, nn.Module]:
        """By name, the parts whose calls tell how the model is wired."""
        return {}

    def read_wiring(self, inputs: Mapping[str, Any], calls: Sequence[Call], logits: Tensor) -> None:
        """Take the wiring from the calls of `parts_to_read` in a pass of the model's own.

        Arguments:
            inputs: further arguments of the pass.
            calls: in their order.
            logits: of the pass.
        """
