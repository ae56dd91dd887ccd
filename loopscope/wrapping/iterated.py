"""Iterated: the four functions of a module that is wrapped by its loop body, by substitution.

`step(x, t)` is the module's own forward in which the body's calls before t aren't computed but give
x, and which is left as soon as call t has returned. `decode(x)` is its own forward in which every
call gives x. Modules that ran before the loop aren't computed again.
"""

from collections import namedtuple
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters.base import Adapter
from ..adapters.forward_inputs import check_no_cache
from ..common.errors import LoopscopeError
from ..core.output_logits import find_logits, named_logits
from ..core.sites import float_tensors, modules_of
from ..core.state_tree import State, tensors
from .iterated_names import ReadOutNames
from .iteration_context import Context, Form
from .missing_logits import missing_logits
from .pass_hooks import counted_turns, left_after
from .prefix import Outputs, kept_modules, kept_outputs, replayed_outputs
from .substituted_pass import SubstitutedPass, is_one_module
from .whole_gradients import WholeGradients


class Iterated(Adapter):
    """The four functions of a module wrapped by its body."""

    family = "an iteration is a call of its body; what comes before and after is the module's own forward"
    body_receives_state = True

    def __init__(self, wrapped: Any, names: ReadOutNames) -> None:
        """`wrapped`: a `loopscope.wrapping.wrap_module.Wrapped`."""
        self.fields = wrapped.state.fields
        super().__init__(wrapped.module)
        self.recurrent_fields = self.fields
        self.wrapped, self.names = wrapped, names
        self.state_type: Any = namedtuple("State", self.fields) if self.fields else None
        self.answers: dict[Any, tuple[str | None, str | None, bool]] = {}
        """By kind of inputs: how substitution differs from the module's own pass, `absent`, and
        `ends_with_logits`."""
        self.absent: str | None = None
        """Why states[0] isn't known; None if it is."""
        self.own_count = 1
        """How many iterations the module ran by itself when it was last verified."""
        self.decides = False
        """Whether its forward reads values during the loop, and so may decide by the states how
        many iterations it runs."""
        self.ends_with_logits = True
        """Whether a tensor of the output that has no such name are logits."""
        self.writes = False
        """Whether a state is written into the memory that the body received."""

    @property
    def iterations(self) -> int:
        return self.own_count

    def depth(self, tokens: Any, inputs: Mapping[str, Any]) -> int:
        """The number of iterations that the module runs by itself on these inputs."""
        return self._count(self.encode(tokens, **inputs))

    def check_inputs(self, tokens: Any, inputs: Mapping[str, Any]) -> None:
        """Every input is followed, as the module's own forward runs; but no cache of another
        pass."""
        check_no_cache(inputs)

    def encode(self, tokens: Any, **inputs: Any) -> Context:
        """The first iteration, computed, and what the modules before it returned."""
        body = self._body()
        kept = kept_modules(self.module, body)
        one = self.new_pass()
        outputs: list[Outputs] = []

        def forward() -> Any:
            with kept_outputs(kept, lambda: one.before_loop) as values:
                outputs.append(values)
                return self.module(*_args(tokens), **inputs)

        first = one.first_iteration(forward)
        if not first.targets:
            raise LoopscopeError(
                f"the forward of {type(self.module).__name__} must run an iteration of "
                f"{self.wrapped.body}, but ran none on these inputs. Name a part that runs."
            )
        return Context(tokens, inputs, outputs[0], Form(first, kept, one.draws))

    def initial(self, context: Context) -> State:
        if self.absent is not None:
            raise LoopscopeError(
                f"states[0] must be known to begin with it, but isn't: {self.absent}. Go on from a later "
                "state: ls.resume(model, run, n, start=1)."
            )
        received = context.form.first.received
        if context.form.draws:  # the module draws its first state in each pass
            one = self.new_pass()
            received = one.first_iteration(lambda: self.run_module(context), only_input=True).received
        return self._state([value.clone() for value in received])

    def begin(self, context: Context) -> tuple[int, State]:
        """The first state that is known, and its k: 1 where something comes before the body's first
        call."""
        if self.absent is None:
            return 0, self.initial(context)
        return 1, self._state([value.clone() for value in context.form.first.returned])

    def step(self, state: State, context: Context, t: int) -> State:
        if t == 0 and self.absent is not None:
            self.initial(context)
        values = tensors(state)
        read = [tensor for _, tensor in float_tensors(context.kept)]  # inputs of the map, as is the state
        differentiated = torch.is_grad_enabled() and any(x.requires_grad for x in (*values, *read))
        whole = WholeGradients() if differentiated and not self.truncates_gradients else nullcontext()
        with whole, counted_turns(self.wrapped, self._body(), self.clock):
            result = self._mapped(values, context, t)
        if differentiated and not any(value.requires_grad for value in result):
            raise LoopscopeError(
                f"the derivative of an iteration must reach its state, but {type(self.module).__name__} cuts "
                "it in its own forward. What needs no derivative works."
            )
        return self._state(result)

    def decode(self, state: State, context: Context) -> Tensor:
        logits, output = self._read_out(state, context)
        if isinstance(logits, Tensor):
            return logits
        raise missing_logits(self.module, self.names.head, output)

    def answer_after(self, state: State, context: Context) -> Any:
        """The logits; what the forward returns, if it holds none and no head was named."""
        logits, output = self._read_out(state, context)
        return output if logits is None else logits

    def _read_out(self, state: State, context: Context) -> tuple[Tensor | None, Any]:
        """The logits, those of the head if one was named; and what the forward returns, if it
        wasn't left before."""
        values, logits = tensors(state), list[Any]()
        count = self._count_from(values, context) if self.decides else self._count(context)
        one = self.new_pass()

        def forward() -> Any:
            with self._prefix(one, context), left_after(self._head(), one, logits):
                return self.run_module(context)

        output = one.output(forward, context.form.first, values, count=count, write=self.writes)
        if self.names.head is not None:
            return next(iter(logits), None), output
        return self.logits_in(output), output

    def logits_in(self, output: Any) -> Any:
        """The logits in an output; None if it holds none."""
        return find_logits(output) if self.ends_with_logits else named_logits(output)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        """The norm and the head that were named, of `h`."""
        if self.names.head is None:
            raise LoopscopeError(
                "the logit lens needs the module that makes logits, but a body wrap doesn't know it. Name it "
                'and the norm before it: ls.wrap(module, body=..., head="lm_head", norm="norm"), or use the '
                'whole read-out: ls.lens(run, "coda").'
            )
        modules = modules_of(self.module)
        return modules[self.names.head](h if self.names.norm is None else modules[self.names.norm](h))

    def site_modules(self) -> dict[str, nn.Module]:
        """Every site by name, without the modules between two calls of the body: whose iteration
        they are part of shows only in the module's own pass."""
        return {name: part for name, part in super().site_modules().items() if name not in self.between}

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The module's own, by which a run knows its weights."""
        return self.module.state_dict(*args, **kwargs)

    def run_module(self, context: Context) -> Any:
        """The module's own forward."""
        return self.module(*_args(context.tokens), **context.inputs)

    def depth_in(self, context: Context) -> int:
        """The number of iterations that the module runs by itself in this context."""
        return self._count(context)

    def depth_of(self, context: Context, run: Any) -> int:
        """The module's own number of iterations in a run, which the context keeps."""
        if context.form.count is None:
            context.form.count = run.iterations
        return self._count(context)

    def continuation_note(self, iterations: int) -> str:
        """What must be said of a run of so many iterations, as a sentence; empty if nothing."""
        if iterations <= self.own_count or self.names.count is not None:
            return ""
        few = (
            " From so few it can't be seen whether an iteration reads more than this state."
            if self.own_count < 3
            else ""
        )
        return (
            f" Beyond the {self.own_count} that the module runs by itself, each is its last one again; an "
            f"argument of its forward that sets their number would be followed: ls.wrap(..., count=...).{few}"
        )

    between: frozenset[str] = frozenset()
    """The modules that are called between two calls of the body, and not before the first."""

    def _state(self, values: Sequence[Tensor]) -> Any:
        return values[0] if self.state_type is None else self.state_type(*values)

    def _body(self) -> list[nn.Module]:
        modules = modules_of(self.module)
        return [modules[name] for name in self.wrapped.body]

    def _head(self) -> nn.Module | None:
        return None if self.names.head is None else modules_of(self.module)[self.names.head]

    def new_pass(self) -> SubstitutedPass:
        """A pass of the module, which is still to run."""
        body = self._body()
        return SubstitutedPass(body, self.wrapped.state, self.clock, one_module=is_one_module(body))

    def _mapped(self, values: list[Tensor], context: Context, t: int) -> list[Tensor]:
        """The state after iteration t; where the module's own forward ends before it, after its
        last one."""
        count, ended = self._count(context), None
        beyond = self.names.count is None and t >= count
        if self.decides or not beyond:  # from these states it may run more iterations than by itself
            result, ended = self._iteration(values, context, t)
            if result is not None:
                return result
        if beyond and ended in (None, count):
            result, ended = self._iteration(values, context, count - 1)
            if result is not None:
                return result
        raise LoopscopeError(
            f"iteration {t} must be reached from this state, but the forward of "
            f"{type(self.module).__name__} leaves its loop after {ended}, as it decides by the states how "
            "many it runs. Ask for an earlier iteration, or record this state in the module's own pass: "
            "ls.record(model, tokens, edits=[ls.patch(...)])."
        )

    def _iteration(self, values: list[Tensor], context: Context, t: int) -> tuple[list[Tensor] | None, int]:
        """The state after iteration t, None if the forward ended before it; and how many it ran."""
        one, inputs = self.new_pass(), dict(context.inputs)
        name = self.names.count
        if name is not None and t >= self._count(context):
            inputs[name] = t + 1

        def forward() -> Any:
            with self._prefix(one, context):
                return self.module(*_args(context.tokens), **inputs)

        core_in: Any = self.get_submodule("core_in")
        first = context.form.first
        return one.iterate(forward, first, values, t, core_in=core_in, write=self.writes), one.done

    def _prefix(self, one: SubstitutedPass, context: Context) -> Any:
        return replayed_outputs(context.form.modules, context.kept, lambda: one.before_loop)

    def _count(self, context: Context) -> int:
        form = context.form
        if form.count is None:
            with torch.no_grad():
                form.count = self._count_from(None if self.decides else form.first.returned, context)
        return form.count

    def _count_from(self, values: Sequence[Tensor] | None, context: Context) -> int:
        """How many iterations the forward runs if each gives `values`; None: is computed."""
        one = self.new_pass()

        def forward() -> Any:
            with self._prefix(one, context):
                return self.run_module(context)

        return one.count(forward, context.form.first, values, write=self.writes)

    def __repr__(self) -> str:
        return f"{self.wrapped!r}, iterated by substitution"


def _args(tokens: Any) -> tuple[Any, ...]:
    return () if tokens is None else (tokens,)
