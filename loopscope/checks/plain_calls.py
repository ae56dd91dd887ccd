"""What PyTorch's own hooks see of a loop, without anything of loopscope's recording: the reference
that states and edits are compared with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..adapters.base import Adapter
from ..common.errors import LoopscopeError
from ..core.hooks import in_backward
from ..core.sites import Path, float_tensors, site_modules
from ..wrapping.body_calls import tied
from ..wrapping.part_state import PartState
from ..wrapping.wrap_module import Wrapped
from .finding import largest_difference

Change = Callable[[int, nn.Module, Any], Any]
"""What a hook makes of an output, from the number of the call, its module and the output."""


class Call(NamedTuple):
    """One call of a module, with copies of the floating-point tensors it had to do with."""

    module: nn.Module
    received: dict[Path, Tensor]
    returned: dict[Path, Tensor]
    """With those of its arguments that the call has written into; their paths begin with
    "argument"."""


@dataclass(frozen=True)
class PlainCalls:
    """The calls of some modules in one pass, and what the pass gave."""

    calls: list[Call]
    output: Any

    @staticmethod
    def of(modules: Sequence[nn.Module], run: Callable[[], Any], change: Change | None) -> "PlainCalls":
        """Run with forward hooks on these modules, which are removed again."""
        calls: list[Call] = []
        received: list[dict[Path, Tensor]] = []

        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            if not in_backward():
                received.append(_copies((args, kwargs)))

        def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            if in_backward():  # checkpointing computes it again
                return None
            new = None if change is None else change(len(calls), module, output)
            taken = received.pop()
            written = {
                ("argument", *path): value
                for path, value in _copies((args, kwargs)).items()
                if path not in taken or largest_difference(value, taken[path])
            }
            calls.append(Call(module, taken, _copies(output if new is None else new) | written))
            return new

        handles = []
        try:
            for module in dict.fromkeys(modules):
                handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
                handles.append(module.register_forward_hook(after, with_kwargs=True))
            return PlainCalls(calls, run())
        finally:
            for handle in handles:
                handle.remove()


@dataclass(frozen=True)
class LoopEnds:
    """Which modules' calls return the states."""

    modules: dict[str, list[nn.Module]]
    """By the site of a state's tensor: each call of one of them returns the next value."""
    first: int
    """Which k the first call returns the state of: 1 for a loop's body, 0 for a site that every
    state passes."""
    begins: list[nn.Module] = field(default_factory=list)
    """The first of their calls receives states[0]; empty where no call need receive it."""

    @property
    def name(self) -> str:
        """The classes of the modules whose calls return the primary tensor, as text."""
        return " or ".join(dict.fromkeys(type(module).__name__ for module in self.modules["state"]))


def loop_ends(model: Any) -> LoopEnds:
    """The modules whose calls return the states of a model.

    Raises:
        LoopscopeError: its adapter knows of none.
    """
    if isinstance(model, Wrapped):
        members = [model.module.get_submodule(name) for name in model.body]
        ends = dict.fromkeys(model.state.sites, members if tied(members) else members[-1:])
        if isinstance(model.state, PartState):
            numbers = zip(model.state.sites, model.state.numbers, strict=True)
            ends = {site: [members[number]] for site, number in numbers}
        return LoopEnds(ends, 1, members)
    if isinstance(model, Adapter):
        bodies = list(model.loop_bodies())
        begin, end = (bodies, bodies) if bodies else ([module] for module in model.loop_ends())
        return LoopEnds({"state": end}, 1, begin if model.body_receives_state else [])
    sites = site_modules(model)
    states = {name: [module] for name, module in sites.items() if name.split(".")[0] == "state"}
    if "state" not in states:
        raise LoopscopeError("no module of the model is passed by its states, so no hook shows them")
    return LoopEnds(states, 0)


def _copies(value: Any) -> dict[Path, Tensor]:
    return {path: tensor.detach().clone() for path, tensor in float_tensors(value)}
