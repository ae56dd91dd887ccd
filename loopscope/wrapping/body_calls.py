"""BodyCalls: which calls of a loop body's parts begin and end an iteration, and the turns of inner
loops in it."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..common.errors import LoopscopeError
from ..core.hooks import After, Before, TemporaryHooks
from ..core.loop_index import Clock

Begin = Callable[[Any, Any], Any]
End = Callable[[nn.Module, Any, Any, Any], Any]


class BodyCalls:
    """The calls of a loop's body in one pass."""

    def __init__(
        self, names: Sequence[str], members: Sequence[nn.Module], *, alternating: bool = False
    ) -> None:
        """`alternating`: whether each part is an iteration by itself, whatever its weights."""
        self.names, self.members = list(names), list(members)
        self.one_module = len(members) == 1 or alternating or tied(members)
        """Whether every call of a part is an iteration."""
        self.done = 0
        """The number of completed iterations."""
        self.inside = False
        """Whether the body is running."""
        self.called: set[str] = set()
        self.inner_called: dict[str, bool] = {}
        """By inner axis, whether its module was called."""
        self._nested = 0
        self._unseen = False
        self._turns: dict[Any, int] = defaultdict(int)

    def attach(self, hooks: TemporaryHooks, begin: Begin, end: End) -> None:
        """Call `begin(args, kwargs)` when an iteration begins and `end(module, args, kwargs,
        output)` when it ends."""
        for name, member in zip(self.names, self.members, strict=True):
            first = self.one_module or member is self.members[0]
            last = self.one_module or member is self.members[-1]
            hooks.attach(
                member,
                before=self._before(name, begin if first else None),
                after=self._after(name, member, end) if last else None,
            )

    def _before(self, name: str, begin: Begin | None) -> Before:
        def before(args: Any, kwargs: Any) -> Any:
            self.called.add(name)
            if begin is None or self._unseen:
                return args, kwargs
            if self.inside:  # the first part again, such as an inner loop at the start of an iteration
                self._nested += self.one_module
                return args, kwargs
            result = begin(args, kwargs)
            self.inside = True
            return result

        return before

    def _after(self, name: str, member: nn.Module, end: End) -> After:
        def after(args: Any, kwargs: Any, output: Any) -> Any:
            if self._unseen:
                return output
            if self._nested:  # the body called itself
                self._nested -= 1
                return output
            if not self.inside:
                raise LoopscopeError(
                    "the parts of the body must be named in the order in which every iteration calls them, "
                    f"but after {self.done} iterations '{name}' was called without '{self.names[0]}' before "
                    f"it: body={self.names}. Name them in their order, and leave out a part that not every "
                    "iteration calls."
                )
            return end(member, args, kwargs, output)

        return after

    def finish(self) -> None:
        """End the running iteration."""
        self.done += 1
        self.inside = False
        self._turns.clear()

    @property
    def incomplete(self) -> str | None:
        """What the pass ended in, in a sentence, if that is the middle of an iteration."""
        if not self.inside:
            return None
        return (
            f"the pass ended in the middle of an iteration: '{self.names[0]}' was called once more, and "
            f"'{self.names[-1]}' not after it. That counts as after the loop, which has {self.done} "
            "iterations. If every iteration should count, leave out the part that not every one calls."
        )

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """Calls of the body in this with-block are no iterations."""
        self._unseen = True
        try:
            yield
        finally:
            self._unseen = False

    def inner_hooks(self, axis: str, clock: Clock) -> tuple[Before, After]:
        """The hooks that count the turns of an inner loop. A loop that runs inside another one
        counts anew in each of its turns."""
        self.inner_called[axis] = False

        def before(args: Any, kwargs: Any) -> Any:
            self.inner_called[axis] = True
            outer = tuple(zip(clock.axes, clock.index, strict=True)) or (("iteration", self.done),)
            clock.set(*outer, (axis, self._turns[axis, outer]))
            self._turns[axis, outer] += 1
            return args, kwargs

        def after(args: Any, kwargs: Any, output: Any) -> Any:
            clock.set(*(pair for pair in zip(clock.axes, clock.index, strict=True) if pair[0] != axis))
            return output

        return before, after

    def check(self, module: nn.Module) -> None:
        """Raise LoopscopeError if the pass that is over didn't call the body as named."""
        if self.inside and self.one_module:
            raise LoopscopeError(
                f"every call of the body must come to its end, but one of {self.names} raised an exception "
                "that its caller caught. Name a part that doesn't fail."
            )
        uncalled = [name for name in self.names if name not in self.called]
        if not self.called or (self.one_module and not self.done):
            parts = [name for name, _ in module.named_modules() if name]
            raise LoopscopeError(
                f"the body {self.names} must be called at least once, but this forward pass called "
                f"it 0 times. Name a part that runs: {', '.join(parts[:8])} ..."
            )
        if uncalled and not self.one_module:
            raise LoopscopeError(
                f"every part of the body must be called in every iteration, but '{uncalled[0]}' was not "
                f"called in this forward pass: body={self.names}. Leave it out."
            )
        uncalled = [axis for axis, called in self.inner_called.items() if not called]
        if uncalled:
            raise LoopscopeError(
                f"the module of the inner loop '{uncalled[0]}' must be called in every iteration, but this "
                "forward pass never called it. Name a part that runs, or leave inner= out."
            )


def tied(modules: Sequence[nn.Module]) -> bool:
    """Whether different modules share the storage of all their parameters."""
    # Parameters that are loaded for each call have no storage between calls.
    stores = [tuple(p.data_ptr() or id(p) for p in module.parameters()) for module in modules]
    return bool(stores[0]) and all(store == stores[0] for store in stores)
