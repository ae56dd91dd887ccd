"""Adapter: a looped model written by others as the four functions, with its own modules as sites.

An adapter changes nothing in the model: it calls the model's own modules in the model's own order,
so that its logits equal the model's bit for bit. What an iteration reads besides the state (masks,
rotary angles, the embedded input) comes from the model too: `first_inputs` runs the model's forward
up to the first call of a module and returns the inputs of that call.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..common.rng import generator_state, restore_generator
from ..core.loop_index import Clock
from ..core.looped_model import Context, step_at
from ..core.readout_protocol import ReadOut
from ..core.sites import modules_of
from ..core.state_tree import State, through_sites
from ..core.tokens import model_inputs
from ..core.turns import parts_of, turn
from ..halting.no_halting import NoHalting
from .forward_hooks import Inputs, first_inputs, replaced_forward


class Adapter(NoHalting, ReadOut, nn.Module):
    """The four functions of a model written by others. `loopscope.wrap` makes one for a model of a
    supported family.

    A subclass gives `encode`, `initial`, `step`, `decode`, `iterations` and `family`, and sets the
    class attributes below where the defaults don't fit. docs/architecture.md has a complete
    example. For recording while the model generates, it also gives the methods from `loop_ends` on.
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
    body_receives_state = False
    """Whether the first module of an iteration receives the state itself."""
    family = ""
    """What one iteration is, as a clause."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.clock = Clock()
        self.name: str | None = None
        self.task: Any = None
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
        output = self(tokens, **inputs)
        for name in ("logits", "prediction_logits", "start_logits", "last_hidden_state"):
            output = getattr(output, name, output)
        return output

    def difference(self, tokens: Any, seed: int = 0, **inputs: Any) -> float:
        """The largest difference between the logits of the model's own forward and those of the
        four functions: 0 where they are equal bit for bit. Worth a check with every new version of
        the model's package.

        >>> print(model.difference(tokens))
        """
        tokens, inputs = model_inputs(self, tokens, inputs)
        with turn(parts_of(self), seeded=True), torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)
            logits = self.forward_logits(tokens, **inputs)
            torch.manual_seed(seed)
            context = self.encode(tokens, **inputs)
            state = self.initial(context)
            for t in range(self.depth(tokens, inputs)):
                state = step_at(self, state, context, t)
            return float((self.decode(state, context) - logits).abs().max())

    def set_outer_module(self, outer: nn.Module, sites: Mapping[str, nn.Module]) -> None:
        """Use the forward and the site names of a module that contains the model."""
        self._site_modules, self._outer_module = dict(sites), [outer]

    def at_state(self, state: State) -> Any:
        """The state, after the hooks of its sites."""
        return through_sites(state, self.state)

    def finished(self, state: State) -> bool:
        """Whether every position has halted."""
        return False

    # For recording passes that the model runs by itself, as in generation

    def loop_ends(self) -> tuple[nn.Module, nn.Module]:
        """The first and the last module that an iteration calls; the last returns the primary
        tensor of the next state."""
        raise LoopscopeError(
            f"the adapter of {type(self.module).__name__} must define loop_ends() to record while the model "
            "generates, but doesn't. Record its passes one by one: ls.record(model, tokens)."
        )

    def inner_loop_modules(self) -> dict[str, nn.Module]:
        """By inner axis, the module whose calls it counts."""
        return {}

    def extra_state_modules(self) -> dict[str, nn.Module]:
        """By further field of the state, the module whose last output in an iteration is its next
        value."""
        return {}

    def initial_from_call(self, first_input: Tensor, embedded: Tensor | None) -> State:
        """states[0] from the first input of the first module, and from the output of
        `embedding`."""
        return first_input

    def embedding(self) -> nn.Module | None:
        """The token embedding, if `initial_from_call` needs its output."""
        return None

    def logits_from_state(self, state: State) -> Tensor | None:
        """The logits, if they depend on the state alone; else None."""
        return None

    def site_modules(self) -> dict[str, nn.Module]:
        """Every site by name: those of the model, and those of the loop."""
        points = {site: self.get_submodule(site) for site in self.loop_sites}
        fields = {f"state.{field}": module for field, module in self.state.named_children()}
        return self._site_modules | {"state": self.state} | fields | points

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
