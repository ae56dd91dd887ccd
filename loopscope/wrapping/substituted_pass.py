"""SubstitutedPass: a module's own forward in which the body's first calls aren't computed, but
return a given state, and which is left as soon as what was asked for is there.

What the module does between these calls and after them is included exactly, as it is the module's
own code that runs.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..common.rng import Generators, generator_state, restore_generator
from ..core.copied import copied
from ..core.hooks import in_backward
from ..core.loop_index import Clock
from ..core.sites import Path, float_tensors, get_at, put_at
from .body_calls import tied
from .body_state import BodyState
from .tensor_match import fresh_copy, same_memory
from .unread_outputs import further_outputs


@dataclass
class Iteration:
    """What the body's first iteration received and returned: the form of every other one."""

    received: list[Tensor] = field(default_factory=list)
    """The tensors of the state, as the first call received them; empty if it received none."""
    outputs: dict[int, Any] = field(default_factory=dict)
    """By part of the body, what it returned."""
    targets: dict[int, list[tuple[int, Path]]] = field(default_factory=dict)
    """By part, the tensors of the state that it returns: the number in the state, and where."""
    returned: list[Tensor] = field(default_factory=list)
    unread: dict[int, list[Path]] = field(default_factory=dict)
    """By part, where else it returns a tensor that it didn't receive: nothing may read it but what
    belongs to its own iteration."""
    in_place: bool = False
    """Whether the body returns the memory that it received."""


class SubstitutedPass:
    """One pass of a module."""

    def __init__(self, body: Sequence[nn.Module], state: BodyState, clock: Clock, *, one_module: bool):
        """`one_module`: whether each call of a part is an iteration."""
        self.body, self.state, self.clock, self.one_module = list(body), state, clock, one_module
        self.done = 0
        """Iterations that are over, computed or not."""
        self.begun = False
        """Whether the body was called."""
        self.live = False
        """Whether what runs now belongs to what was asked for."""
        self._inside = False
        self._depth = 0
        self.draws = False
        """Whether the pass has drawn random numbers."""
        self._before = generator_state()

    @property
    def before_loop(self) -> bool:
        """Whether the body wasn't called yet."""
        return not self.begun

    def first_iteration(self, forward: Callable[[], Any], *, only_input: bool = False) -> Iteration:
        """The first iteration, computed.

        Arguments:
            only_input: leave the pass before it.
        """
        result, returned = Iteration(), dict[int, Tensor]()

        def part(number: int, original: Any, args: Any, kwargs: Any) -> Any:
            if self._first(number) and not self._inside:
                self._inside = True
                inputs = (args, kwargs)
                sources = self.state.sources(inputs, None)
                result.received = [get_at(inputs, path).detach().clone() for path in sources]
                if only_input:
                    self.live = True  # its draws are the pass's own
                    raise Left
            output = original(*args, **kwargs)
            like = result.received[0] if result.received else None
            found = self.state.targets_of(number, self._last(number), output, like)
            if found:
                result.targets[number] = found
                returned.update({place: get_at(output, path) for place, path in found})
            if self._last(number):
                values = [returned[place] for place in sorted(returned)]
                inputs = [tensor for _, tensor in float_tensors((args, kwargs))]
                result.in_place = any(same_memory(a, b) for a in values for b in inputs)
                result.returned = [value.detach().clone() for value in values]
            result.outputs[number] = copied(output)
            result.unread[number] = further_outputs(output, (args, kwargs), found)
            if self._last(number):
                raise Left
            return output

        self._run(forward, part)
        return result

    def count(
        self, forward: Callable[[], Any], first: Iteration, values: Sequence[Tensor] | None, *, write: bool
    ) -> int:
        """How many iterations the module runs if each gives `values`; None: if each is computed."""

        def computed(number: int, original: Any, args: Any, kwargs: Any) -> Any:
            output = original(*args, **kwargs)
            self.done += self._last(number)
            return output

        if values is None:
            self._run(forward, computed)
        else:
            self.output(forward, first, values, count=None, write=write)
        return self.done

    def iterate(
        self,
        forward: Callable[[], Any],
        first: Iteration,
        values: Sequence[Tensor],
        t: int,
        *,
        core_in: Callable[[Tensor], Tensor],
        write: bool,
    ) -> list[Tensor] | None:
        """The state after iteration t, with `values` before it; None if the module ran fewer
        iterations.

        Arguments:
            core_in: what the primary tensor passes before the body receives it.
            write: whether the state is also written into the memory that the body received.
        """
        result: list[Tensor] | None = None
        returned: dict[int, Tensor] = {}

        def part(number: int, original: Any, args: Any, kwargs: Any) -> Any:
            nonlocal result
            if self.done < t:
                return self._replacement(number, first, values, (args, kwargs), write, last=t)
            if self._first(number) and not self._inside:
                self._inside = True
                if not t:
                    self._go_live()
                args, kwargs = self._received((args, kwargs), values if not t else None, core_in, write)
            output = original(*args, **kwargs)
            found = self.state.targets_of(number, self._last(number), output, values[0])
            returned.update({place: get_at(output, path) for place, path in found})
            if self._last(number):
                result = [returned[place] for place in sorted(returned)]
                raise Left
            return output

        self._run(forward, part)
        return result

    def output(
        self,
        forward: Callable[[], Any],
        first: Iteration,
        values: Sequence[Tensor],
        *,
        count: int | None,
        write: bool,
    ) -> Any:
        """What the module returns if every iteration gives `values`.

        Arguments:
            count: the number of iterations; what runs after them belongs to the read-out.
        """

        def part(number: int, original: Any, args: Any, kwargs: Any) -> Any:
            return self._replacement(number, first, values, (args, kwargs), write, last=count)

        return self._run(forward, part)

    def _first(self, number: int) -> bool:
        return self.one_module or number == 0

    def _last(self, number: int) -> bool:
        return self.one_module or number == len(self.body) - 1

    def _replacement(
        self,
        number: int,
        first: Iteration,
        values: Sequence[Tensor],
        inputs: Any,
        write: bool,
        last: int | None,
    ) -> Any:
        """What a call that isn't computed returns: the first iteration's output, with the state."""
        output = first.outputs.get(number, first.outputs[next(reversed(first.outputs))])
        output, last_part = copied(output), self._last(number)
        sources = self.state.sources(inputs, values[0]) if write and last_part else []
        form = number if number in first.targets else next(reversed(first.targets))
        for place, path in first.targets[form] if last_part or number in first.targets else []:
            value, like = values[place], get_at(output, path)
            if place < len(sources):
                new = get_at(inputs, sources[place]).copy_(value)
            else:
                new = fresh_copy(value, like) if like.shape == value.shape else value.clone()
            output = put_at(output, path, new)
        if not last_part:
            return output
        self.done += 1
        if self.done == last:
            self._go_live()
        return output

    def _received(
        self, inputs: Any, values: Sequence[Tensor] | None, core_in: Callable[[Tensor], Tensor], write: bool
    ) -> Any:
        """What a computed call receives: the given state if it is the first."""
        paths = self.state.sources(inputs, None if values is None else values[0])
        for place, path in enumerate(paths):
            value = new = get_at(inputs, path)
            if values is not None:
                new = value.copy_(values[place]) if write else fresh_copy(values[place], value)
            if place == 0:
                new = core_in(new)
            if new is not value:
                inputs = put_at(inputs, path, new)
        return inputs

    def _go_live(self) -> None:
        """From here on hooks see what runs, and random numbers are those that come next."""
        restore_generator(self._before)
        self.live, self.clock.hidden = True, False

    def _run(self, forward: Callable[[], Any], part: Callable[..., Any]) -> Any:
        """The output of a pass with `part` in place of the body's calls; None if it was left."""
        hidden, self.clock.hidden = self.clock.hidden, True
        try:
            with self._replaced(part):
                return forward()
        except Left:
            return None
        finally:
            self.clock.hidden = hidden
            self.draws = _differ(generator_state(), self._before)
            if not self.live:
                restore_generator(self._before)

    @contextmanager
    def _replaced(self, part: Callable[..., Any]) -> Iterator[None]:
        thread, previous = threading.get_ident(), [vars(member).get("forward") for member in self.body]

        def replaced(number: int, original: Any) -> Any:
            def forward(*args: Any, **kwargs: Any) -> Any:
                # a part of the body may be inside another call of it
                if threading.get_ident() != thread or in_backward() or self._depth:
                    return original(*args, **kwargs)
                self.begun = True
                return part(number, computed(original), args, kwargs)

            return forward

        def computed(original: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                self._depth += 1
                try:
                    return original(*args, **kwargs)
                finally:
                    self._depth -= 1

            return call

        for number, member in enumerate(self.body):
            vars(member)["forward"] = replaced(number, member.forward)
        try:
            yield
        finally:
            for member, forward in zip(self.body, previous, strict=True):
                if forward is None:
                    vars(member).pop("forward", None)
                else:
                    vars(member)["forward"] = forward


class Left(BaseException):
    """Ends a pass; no `except Exception` in the model catches it."""


def _differ(one: Generators, other: Generators) -> bool:
    pairs = zip((one[0], *one[1]), (other[0], *other[1]), strict=False)
    return any(not torch.equal(a, b) for a, b in pairs)


def is_one_module(body: Sequence[nn.Module]) -> bool:
    """Whether each call of a part of the body is an iteration."""
    return len(body) == 1 or tied(body)
