"""Adapter: a looped model that others wrote, as the four functions, under its own modules' names.

An adapter changes nothing and computes nothing of its own: it calls the model's own parts in the
model's own order, so that its answers are the model's, bit for bit. What an iteration reads besides
the state (masks, rotary angles, the embedded input) is not made anew either: `first_inputs` runs
the model's forward up to the first call of a part and takes what that part was given.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..common.rng import generator_state, restore_generator
from ..core.hooks import TemporaryHooks
from ..core.loop_index import Clock
from ..core.looped_model import Context, step_at
from ..core.readout import ReadOut
from ..core.sites import find_tensor, get_at, modules_of, put_at
from ..core.state_tree import State, through_sites
from ..halting.no_halting import NoHalting


class Adapter(NoHalting, ReadOut, nn.Module):
    """What `loopscope.wrap` makes of a model of a known family. Subclasses give the four functions,
    and:

    fields: names of the state's tensors, the primary one first; empty if the state is one tensor.
    loop_sites: sites of the loop itself besides `state`, such as what the body receives.
    iterations: the model's own depth.
    """

    module: Any
    core_in: Any
    low_in: Any
    low_out: Any
    high_in: Any

    fields: tuple[str, ...] = ()
    loop_sites: tuple[str, ...] = ("core_in",)
    update_sites: Mapping[str, Sequence[str]] = {}
    """By field of the state: the points that an update of it passes within an iteration, as in
    `loopscope.nn.LoopedModule`."""
    body_receives_state = False
    """Whether what the first part of an iteration is given is the state."""
    family = ""
    """The family, and what one iteration of it is."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.clock = Clock()
        self.name: str | None = None
        self.task: Any = None
        self.recurrent_fields = self.fields
        self.truncates_gradients = False
        """Whether gradients are cut where the model itself cuts them; a Jacobian is that of the
        whole map."""
        self.state = nn.Identity()
        for field in self.fields[1:]:
            self.state.add_module(field, nn.Identity())
        for point in self.loop_sites:
            self.add_module(point, nn.Identity())
        self._names = modules_of(module)
        self._outer: list[nn.Module] = []

    @property
    def iterations(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must say how many iterations its model runs.")

    @property
    def config(self) -> Any:
        return getattr(self.module, "config", None)

    @property
    def vocabulary(self) -> int | None:
        """How many tokens there are; None if the model doesn't say."""
        return getattr(self.config, "vocab_size", None)

    def depth(self, tokens: Any, inputs: Mapping[str, Any]) -> int:
        """How many iterations the model runs on these inputs by itself."""
        return self.iterations

    def encode(self, tokens: Any, **inputs: Any) -> Context:
        raise NotImplementedError(f"{type(self).__name__} must say what encode(tokens) gives.")

    def initial(self, context: Context) -> State:
        raise NotImplementedError(f"{type(self).__name__} must say what initial(context) gives.")

    def step(self, state: State, context: Context, t: int) -> State:
        raise NotImplementedError(f"{type(self).__name__} must say what step(state, context, t) gives.")

    def decode(self, state: State, context: Context) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must say what decode(state, context) gives.")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own forward."""
        return (self._outer or [self.module])[0](*args, **kwargs)

    def forward_logits(self, tokens: Any, **inputs: Any) -> Tensor:
        """The model's own answer."""
        output = self(tokens, **inputs)
        for name in ("logits", "prediction_logits", "start_logits", "last_hidden_state"):
            output = getattr(output, name, output)
        return output

    def difference(self, tokens: Any, seed: int = 0, **inputs: Any) -> float:
        """The largest difference between the model's own answer and that of the four functions: 0
        where they are the same bit for bit. A look before you trust what is measured on a model, a
        new version of its package above all.

        >>> print(model.difference(tokens))
        """
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)
            own = self.forward_logits(tokens, **inputs)
            torch.manual_seed(seed)
            context = self.encode(tokens, **inputs)
            state = self.initial(context)
            for t in range(self.depth(tokens, inputs)):
                state = step_at(self, state, context, t)
            return float((self.decode(state, context) - own).abs().max())

    def set_outer_module(self, outer: nn.Module, names: Mapping[str, nn.Module]) -> None:
        """Take the names of a module around the model, and its forward."""
        self._names, self._outer = dict(names), [outer]

    def at_state(self, state: State) -> Any:
        """Pass a state through its sites."""
        return through_sites(state, self.state)

    def finished(self, state: State) -> bool:
        """Whether every position has halted."""
        return False

    # For a pass that the model makes by itself, as in generation

    def loop_ends(self) -> tuple[nn.Module, nn.Module]:
        """The first and the last part that an iteration calls; the last gives the primary tensor of
        the next state."""
        raise LoopscopeError(
            f"{type(self.module).__name__} must be known to generate to be recorded while it does, but "
            "isn't. Record its passes one by one: ls.record(model, tokens)."
        )

    def inner_loop_modules(self) -> dict[str, nn.Module]:
        """The module that each inner axis counts the calls of."""
        return {}

    def extra_state_modules(self) -> dict[str, nn.Module]:
        """The module whose last output in an iteration is a further field of the next state."""
        return {}

    def initial_from_call(self, given: Tensor, embedded: Tensor | None) -> Any:
        """states[0], from what the first part is given first and from what the embedding gave."""
        return given

    def embedding(self) -> nn.Module | None:
        """The token embedding, where `initial_from_call` needs it."""
        return None

    def logits_from_state(self, state: State) -> Tensor | None:
        """The logits of a state alone, where nothing else is needed."""
        return None

    def site_modules(self) -> dict[str, nn.Module]:
        """Every site by name: those of the model, and those of the loop."""
        points = {point: self.get_submodule(point) for point in self.loop_sites}
        fields = {f"state.{field}": module for field, module in self.state.named_children()}
        return self._names | {"state": self.state} | fields | points

    @property
    def training(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The model's own mode."""
        module = self.__dict__.get("_modules", {}).get("module")
        return bool(module is not None and module.training)

    @training.setter
    def training(self, mode: bool) -> None:
        """nn.Module sets it on the way to its children, of which the model is one."""

    def __repr__(self) -> str:
        return f"{type(self.module).__name__} of {self.iterations} iterations: {self.family}"

    # For subclasses

    def first_inputs(
        self, part: nn.Module, *args: Any, **kwargs: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What `part` is given when the model's forward first calls it. Nothing from there on is
        run."""

        def stop(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            raise _Given(args, kwargs)

        with TemporaryHooks() as taps:
            taps.attach(part, before=stop)
            try:
                self.module(*args, **kwargs)
            except _Given as given:
                return given.args, given.kwargs
        raise LoopscopeError(
            f"{type(self.module).__name__}'s forward must call {type(part).__name__}, but didn't with these "
            "inputs. Name the part that repeats yourself: ls.wrap(model, body=...)."
        )

    def read_out(self, part: nn.Module, output: Any, *args: Any, **kwargs: Any) -> Any:
        """The model's own forward with `output` in place of what `part` would give: all that comes
        after the loop.

        What comes before is run again and nobody sees it: its sites are not recorded, and it draws
        no random numbers that what comes after would miss.
        """
        before = generator_state()

        def instead(*_: Any, **__: Any) -> Any:
            restore_generator(before)
            self.clock.hidden = False
            return output

        with replaced_forward(part, instead):
            self.clock.hidden = True
            try:
                return self.module(*args, **kwargs)
            finally:
                self.clock.hidden = False


def uncached(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs of a forward that keeps no keys and values: an iteration that is run twice would find
    its own in the cache."""
    if inputs.get("past_key_values") is not None:
        raise LoopscopeError(
            "a pass that is iterated must not have a cache, but past_key_values was passed. Record what "
            "really ran with `with ls.recording(model) as run:`, or ls.generate."
        )
    return dict(inputs) | {"use_cache": False}


class SingleBodyAdapter(Adapter):
    """A loop whose body is one part that is given the state and gives the next, with nothing in
    between."""

    def part(self) -> nn.Module:
        """The body."""
        raise NotImplementedError(f"{type(self).__name__} must say what its body is.")

    def encode(self, tokens: Any, **inputs: Any) -> Context:
        args, kwargs = self.first_inputs(self.part(), tokens, **inputs)
        return {"args": args, "kwargs": kwargs, "tokens": tokens, "inputs": inputs}

    def initial(self, context: Context) -> Tensor:
        given = (context["args"], context["kwargs"])
        return get_at(given, _path(given))

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        given = (context["args"], context["kwargs"])
        args, kwargs = put_at(given, _path(given), self.get_submodule("core_in")(state))
        output = self.part()(*args, **kwargs)
        path = find_tensor(output, state)
        assert path is not None
        return get_at(output, path)


class _Given(BaseException):
    """Carries what a part was given out of a forward pass; no `except Exception` on the way stops
    it."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.args, self.kwargs = args, kwargs  # pyright: ignore[reportIncompatibleVariableOverride]


@contextmanager
def replaced_forward(part: nn.Module, instead: Callable[..., Any]) -> Iterator[None]:
    """For a while, `instead` answers in the place of `part`'s forward, and of what taps have put
    there."""
    own = vars(part).get("forward")
    vars(part)["forward"] = instead
    try:
        yield
    finally:
        if own is None:
            del vars(part)["forward"]
        else:
            vars(part)["forward"] = own


def _path(given: Any) -> tuple[Any, ...]:
    path = find_tensor(given)
    if path is None:
        raise LoopscopeError(
            "the body of a loop must be given a floating-point tensor, but was given none. Wrap the part "
            "that takes the state."
        )
    return path
