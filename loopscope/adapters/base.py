"""Adapter: a looped model written by others as the four functions, with its own modules as sites.

An adapter changes nothing in the model: it calls the model's own modules in the model's own order,
so that its logits equal the model's bit for bit. What an iteration reads besides the state (masks,
rotary angles, the embedded input) comes from the model too: `first_inputs` runs the model's forward
up to the first call of a module and returns the inputs of that call.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..common.rng import generator_state, restore_generator
from ..core.loop_index import Clock
from ..core.looped_model import Context, step_at
from ..core.pattern_sites import with_patterns
from ..core.readout_protocol import ReadOut
from ..core.sites import modules_of
from ..core.state_tree import State, through_sites
from ..core.tokens import model_inputs
from ..core.turns import parts_of, turn
from ..halting.no_halting import NoHalting
from .forward_hooks import Inputs, first_inputs, naming_unknown_inputs, recorded_calls, replaced_forward
from .forward_inputs import check_inputs
from .loop_calls import LoopCalls
from .refused_functions import RefusedFunctions
from .self_check import largest_difference
from .verification import verify


class Adapter(RefusedFunctions, LoopCalls, NoHalting, ReadOut, nn.Module):
    """The four functions of a model written by others. `loopscope.wrap` makes one for a model of a
    supported family.

    A subclass gives `encode`, `initial`, `step`, `decode`, `iterations` and `family`, and sets the
    class attributes below where the defaults don't fit. docs/architecture.md has a complete
    example. For recording while the model generates, it also gives the methods of `LoopCalls`.
    """

    module: Any
    core_in: Any
    low_in: Any
    low_out: Any
    high_in: Any

    fields: tuple[str, ...] = ()
    """Names of the state's tensors, the primary one first; empty if the state is one tensor."""
    loop_sites: tuple[str, ...] = ("core_in",)
    """Sites of the loop itself besides `state`; `step` passes values through `self.core_in` and so
    on."""
    update_sites: Mapping[str, Sequence[str]] = {}
    """By field of the state: the sites that an update of it passes within an iteration, as in
    `loopscope.nn.LoopedModule`."""
    followed_inputs: Collection[str] = ()
    """Names of the inputs of the model's forward, besides the tokens, that the four functions
    follow as the model does. Every other is refused by name."""
    family = ""
    """What one iteration is, as a clause."""
    model_class = ""
    """Of an adapter of your own: the class of its models, by which `loopscope.wrap` finds it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.clock = Clock()
        self.name: str | None = None
        self.task: Any = None
        self.tokenizer: Any = None
        """The model's tokenizer, if figures are to show its strings: anything with
        `convert_ids_to_tokens`."""
        self.check = True
        """Whether a first recording compares the four functions with the model's own forward."""
        self.checked: set[Any] = set()
        """The kinds of inputs for which they were found equal."""
        self.checked_weights: Any = None
        """The kind of the weights (`forward_inputs.kind_of_weights`) at the last comparison."""
        self.mismatch: str | None = None
        """How they differ, as a sentence; None as long as they don't."""
        self.recurrent_fields = self.fields
        self.truncates_gradients = False
        """Whether `step` stops gradients where the model's own forward does. False for Jacobians,
        which are those of the whole map."""
        self.state = nn.Identity()
        for field in self.fields[1:]:
            self.state.add_module(field, nn.Identity())
        for site in self.loop_sites:
            self.add_module(site, nn.Identity())
        self._site_modules = modules_of(module)
        self._outer_module: list[nn.Module] = []  # in a list, so that it is no submodule

    @property
    def iterations(self) -> int:
        """The number of iterations that the model runs by itself."""
        raise NotImplementedError(f"{type(self).__name__} must define the property iterations.")

    @property
    def config(self) -> Any:
        """The model's configuration; None if it has none."""
        return getattr(self.module, "config", None)

    @property
    def vocabulary(self) -> int | None:
        """The size of the vocabulary; None if the model's configuration doesn't have it."""
        return getattr(self.config, "vocab_size", None)

    def depth(self, tokens: Any, inputs: Mapping[str, Any]) -> int:
        """The number of iterations that the model runs by itself on these inputs."""
        return self.iterations

    def encode(self, tokens: Any, **inputs: Any) -> Context:
        """All that an iteration may read besides the state."""
        raise NotImplementedError(f"{type(self).__name__} must define encode(tokens).")

    def initial(self, context: Context) -> State:
        """states[0]."""
        raise NotImplementedError(f"{type(self).__name__} must define initial(context).")

    def step(self, state: State, context: Context, t: int) -> State:
        """states[t + 1] from states[t]: one iteration."""
        raise NotImplementedError(f"{type(self).__name__} must define step(state, context, t).")

    def decode(self, state: State, context: Context) -> Tensor:
        """(batch, position, vocab): the logits after any iteration."""
        raise NotImplementedError(f"{type(self).__name__} must define decode(state, context).")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own forward."""
        return self.whole(*args, **kwargs)

    @property
    def whole(self) -> nn.Module:
        """The module whose forward this is: the model, or one that contains it."""
        return (self._outer_module or [self.module])[0]

    def forward_logits(self, tokens: Any, **inputs: Any) -> Tensor:
        """The logits of the model's own forward."""
        with naming_unknown_inputs(self.module, inputs):
            return self.logits_in(self(tokens, **inputs))

    def logits_in(self, output: Any) -> Any:
        """The logits in the output of the model's own forward."""
        for name in ("logits", "prediction_logits", "start_logits", "last_hidden_state"):
            output = getattr(output, name, output)
        return output

    def model_logits(self, tokens: Any, inputs: Mapping[str, Any]) -> Tensor:
        """As `forward_logits`; the adapter also reads from the pass how the model is wired."""
        with recorded_calls(self.parts_to_read()) as calls:
            logits = self.forward_logits(tokens, **inputs)
        self.read_wiring(inputs, calls, logits)
        return logits

    def compared_logits(
        self, tokens: Any, inputs: Mapping[str, Any], expected: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Pairs that must be equal: what the four functions give after the model's own depth,
        whether or not they were found to differ, and `expected`, the model's own; and the same of a
        read-out alone, where these don't show it."""
        with self.functions_allowed():
            n = self.depth(tokens, inputs)
            context = self.encode(tokens, **inputs)
            states = [self.initial(context)]
            for t in range(n):
                states.append(step_at(self, states[-1], context, t))
            early = self.answers_early(context, n)
            ours = self.answer(states, context) if early else self.decode(states[-1], context)
            further = self.read_outs(states[-1], context)
            return [(ours, expected), *([] if further is None else [further])]

    def difference(self, tokens: Any, seed: int = 0, **inputs: Any) -> float:
        """The largest difference between the logits of the model's own forward and those of the
        four functions: 0 where they are equal bit for bit. Worth a check with every new version of
        the model's package.

        >>> print(model.difference(tokens))

        Raises:
            LoopscopeError: an input that the adapter doesn't follow.
        """
        pairs = self.comparison(tokens, seed, **inputs)
        return max(largest_difference(ours, theirs) for ours, theirs in pairs)

    def comparison(self, tokens: Any, seed: int = 0, **inputs: Any) -> list[tuple[Tensor, Tensor]]:
        """Pairs of logits that must be equal: what the four functions give, and the model's own.

        Raises:
            LoopscopeError: an input that the adapter doesn't follow.
        """
        tokens, inputs = model_inputs(self, tokens, inputs)
        self.check_inputs(tokens, inputs)
        with turn(parts_of(self), seeded=True), torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)
            expected = self.model_logits(tokens, inputs)
            torch.manual_seed(seed)
            return self.compared_logits(tokens, inputs, expected)

    def check_inputs(self, tokens: Any, inputs: Mapping[str, Any]) -> None:
        """Raise LoopscopeError for an input that the four functions don't follow, by its name."""
        check_inputs(self.module, self.followed_inputs, tokens, inputs)

    def verify(self, tokens: Any, inputs: Mapping[str, Any]) -> None:
        """Raise LoopscopeError if the four functions differ from the model's own forward, which
        runs once for each kind of inputs to tell."""
        self.check_inputs(tokens, inputs)
        verify(self, tokens, inputs)

    def set_outer_module(self, outer: nn.Module, sites: Mapping[str, nn.Module]) -> None:
        """Use the forward and the site names of a module that contains the model."""
        self._site_modules, self._outer_module = dict(sites), [outer]

    def at_state(self, state: State) -> Any:
        """The state, after the hooks of its sites."""
        return through_sites(state, self.state)

    def finished(self, state: State) -> bool:
        """Whether every position has halted."""
        return False

    # For a model that may answer from an earlier state than the last

    def answers_early(self, context: Context, iterations: int) -> bool:
        """Whether the model's own answer after this number of iterations may be read from an
        earlier state than the last. `answer` is its answer then."""
        return False

    def answer(self, states: Sequence[State], context: Context) -> Tensor:
        """The model's own answer from the states of a whole pass, states[0] first."""
        return self.decode(states[-1], context)

    def read_outs(self, state: State, context: Context) -> tuple[Tensor, Tensor] | None:
        """What `decode` and the model's own read-out give for a state, where `answer` doesn't show
        whether they are equal; else None."""
        return None

    def site_modules(self) -> dict[str, nn.Module]:
        """Every site by name: those of the model, and those of the loop."""
        points = {site: self.get_submodule(site) for site in self.loop_sites}
        fields = {f"state.{field}": module for field, module in self.state.named_children()}
        return with_patterns(self._site_modules) | {"state": self.state} | fields | points

    @property
    def training(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The model's own mode, training or evaluation."""
        module = self.__dict__.get("_modules", {}).get("module")
        return bool(module is not None and module.training)

    @training.setter
    def training(self, mode: bool) -> None:
        """Nothing to do: nn.Module sets the mode of the model, which is a child."""

    def __repr__(self) -> str:
        return f"{type(self.module).__name__} of {self.iterations} iterations: {self.family}"

    # For subclasses

    def first_inputs(self, part: nn.Module, *args: Any, **kwargs: Any) -> Inputs:
        """The inputs of `part` at its first call in the model's forward, which ends there."""
        with turn(parts_of(self)):
            return first_inputs(self.module, part, *args, **kwargs)

    def read_out(self, part: nn.Module, output: Any, *args: Any, **kwargs: Any) -> Any:
        """The output of the model's own forward with `output` in place of `part`'s: everything
        after the loop.

        What comes before the loop runs again, unrecorded, and the random state is restored after
        it.
        """
        before = generator_state()

        def replacement(*_: Any, **__: Any) -> Any:
            restore_generator(before)
            self.clock.hidden = False
            return output

        with turn(parts_of(self)), replaced_forward(part, replacement):
            self.clock.hidden = True
            try:
                return self.module(*args, **kwargs)
            finally:
                if self.clock.hidden:  # the part wasn't reached
                    restore_generator(before)
                self.clock.hidden = False
