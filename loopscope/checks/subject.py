"""Subject: the model that is checked, with what it reads. Every pass begins from one and the same
beginning: the buffers and random numbers that the model had when the check began."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from ..adapters.base import Adapter
from ..common.errors import LoopscopeError
from ..core.copied import copied
from ..core.preserved_state import ModuleState
from ..recorder.record_run import record
from ..runs.run import Run
from ..wrapping.wrap_module import Wrapped
from .finding import largest_difference
from .module_trace import Trace
from .plain_calls import Change, LoopEnds, PlainCalls, loop_ends


@dataclass(frozen=True)
class Subject:
    """A model with its inputs. `make_subject` makes one."""

    model: Any
    """What `record` takes."""
    module: nn.Module
    """Whose forward it is."""
    tokens: Any
    inputs: dict[str, Any]
    seed: int
    before: ModuleState
    trace: Trace
    """What the module carried before anything was recorded."""

    def forward(self, *, seed: int | None = -1) -> Any:
        """What the model gives by itself, without loopscope: a whole output, and of a model with
        the four functions its logits.

        Arguments:
            seed: -1: that of the check; None: torch's generator runs on.
        """
        self.before.restore()
        args = () if self.tokens is None else (copied(self.tokens),)
        with torch.no_grad(), torch.random.fork_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(self.seed)
            if isinstance(self.model, Adapter):
                return copied(self.model.logits_in(self.model(*args, **copied(self.inputs))))
            return copied(self.module(*args, **copied(self.inputs)))

    def record(self, *, seed: int | None = -1, **options: Any) -> Run:
        """`loopscope.record`, with the options that it takes. `seed` is as for `forward`."""
        self.before.restore()
        chosen = None if seed is None else self.seed
        return record(self.model, self.tokens, seed=chosen, **options, **self.inputs)

    @cached_property
    def output(self) -> Any:
        """What `forward` gives."""
        return self.forward()

    @cached_property
    def unsteadiness(self) -> float:
        """The largest difference between two outputs of `forward`, which must be 0."""
        return largest_difference(self.output, self.forward())

    @cached_property
    def run(self) -> Run:
        """A recording without options."""
        return self.record()

    @cached_property
    def full_run(self) -> Run:
        """A recording of all sites."""
        return self.record(sites="all")

    @cached_property
    def ends(self) -> LoopEnds:
        """The modules whose calls return the states.

        Raises:
            LoopscopeError: no call shows them.
        """
        _ = self.run  # an adapter reads from its first pass how the model is wired
        return loop_ends(self.model)

    def watched(self, modules: Any, change: Change | None = None) -> PlainCalls:
        """What plain hooks see at the calls of these modules in `forward`.

        Arguments:
            change: what the hooks make of a call's output.
        """
        return PlainCalls.of(list(modules), self.forward, change)

    @cached_property
    def hooks_change_output(self) -> bool:
        """Whether PyTorch's own hooks change what the module computes, as on a fused layer."""
        seen = self.watched(dict.fromkeys(self.module.modules()))
        return largest_difference(seen.output, self.output) != 0

    @contextmanager
    def comparable(self) -> Iterator[Callable[..., Run]]:
        """A block in which plain hooks don't change what the module computes, if that can be had,
        and the function that records in it."""
        if not self.hooks_change_output:
            yield self.record
            return
        fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            if largest_difference(self.watched(self.module.modules()).output, self.forward()):
                raise LoopscopeError("plain hooks change what the module computes, so they show no states")
            yield self.record
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)


def make_subject(model: Any, tokens: Any, inputs: dict[str, Any], seed: int) -> Subject:
    """A subject, after a first pass of the module's own, which may make what it makes only once.

    Raises:
        LoopscopeError: the module's own forward fails on these inputs.
    """
    module = model
    if isinstance(model, Adapter | Wrapped):
        module = getattr(model, "whole", model.module)
    if not isinstance(module, nn.Module):
        raise LoopscopeError(
            f"check compares with a model's own forward, but {type(model).__name__} is no torch.nn.Module. "
            "Put the four functions into one."
        )
    before = ModuleState(module)
    subject = Subject(model, module, tokens, inputs, seed, before, Trace({}))
    try:
        subject.forward()
    except LoopscopeError:
        raise
    except Exception as error:
        raise LoopscopeError(
            f"the forward of {type(module).__name__} must run on these inputs to be checked, but raised "
            f"{type(error).__name__}: {error}. Pass the tokens and inputs that it takes: "
            "ls.check(model, tokens, ...)."
        ) from error
    before.restore()
    return replace(subject, trace=Trace.of(module))
