"""Hooks of a substituted pass: it is left once the head has returned, and the turns of inner loops
are counted."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..core.hooks import TemporaryHooks
from ..core.loop_index import Clock
from ..core.output_logits import find_logits
from ..core.sites import modules_of
from ..core.turns import parts_of, running_pass
from .body_calls import BodyCalls
from .substituted_pass import Left, SubstitutedPass


@contextmanager
def left_after(head: nn.Module | None, one: SubstitutedPass, logits: list[Any]) -> Iterator[None]:
    """Leave the pass once the head has returned after the loop, with what it returned in
    `logits`."""
    if head is None:
        yield
        return

    def after(args: Any, kwargs: Any, output: Any) -> Any:
        if one.live:
            logits.append(find_logits(output))
            raise Left
        return output

    with TemporaryHooks() as hooks:
        hooks.attach(head, after=after)
        yield


@contextmanager
def counted_turns(wrapped: Any, body: Sequence[nn.Module], clock: Clock) -> Iterator[None]:
    """Count the turns of the inner loops of a `loopscope.wrapping.wrap_module.Wrapped`."""
    if not wrapped.inner:
        yield
        return
    modules = modules_of(wrapped.module)
    calls = BodyCalls(wrapped.body, body)
    with running_pass(parts_of(wrapped.module)), TemporaryHooks() as hooks:
        for axis, name in wrapped.inner.items():
            before, after = calls.inner_hooks(axis, clock)
            hooks.attach(modules[name], before=before, after=after)
        yield
