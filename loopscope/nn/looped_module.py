"""LoopedModule, the base of every model in the zoo: a TransformerLens root module whose forward is
the driver."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from ..common.arguments import FilePath
from ..common.errors import LoopscopeError
from ..core.loop_index import Clock
from ..core.looped_model import Context, drive
from ..core.sites import axes_of
from ..core.state_tree import State, primary, through_sites
from ..core.states import States
from ..halting.no_halting import NoHalting
from ..recorder.saved_model import save_named
from .readout import UnembedReadOut

try:
    from transformer_lens.HookedRootModule import HookedRootModule
except ImportError:  # before transformer-lens 3.3 it lay beside HookPoint
    from transformer_lens.hook_points import HookedRootModule  # pyright: ignore[reportAttributeAccessIssue]

NamesFilter = Callable[[str], bool] | Sequence[str] | str | None


class LoopedModule(NoHalting, UnembedReadOut, HookedRootModule):
    """A looped transformer. A subclass gives `encode`, `initial`, `step` and `decode`, and calls
    `setup()` at the end of `__init__`. docs/architecture.md has a complete example.

    The sites `state` (and `state.<field>` for a named tuple) are hook points. The driver passes
    every state through them before the next iteration or the read-out reads it.
    """

    update_sites: Mapping[str, Sequence[str]] = {}
    """By field of the state: the sites that an update of it passes within an iteration, before
    anything else reads it; () for a field that is updated once, at the end. `loopscope.freeze`
    edits these sites."""

    def __init__(self, iterations: int, vocabulary: int, fields: Sequence[str] = ()) -> None:
        """
        Arguments:
            iterations: the model's own depth.
            vocabulary: the number of tokens.
            fields: the names of the state's tensors, the primary one first, if it is a named tuple.
        """
        super().__init__()
        self.iterations, self.vocabulary = iterations, vocabulary
        self.clock = Clock()
        self.name: str | None = None
        self.architecture: str | None = None
        """By which `loopscope.models.build` built it."""
        self.reload: Callable[[], Any] | None = None
        """Loads the model again in another process: a function that can be pickled."""
        self.task: Any = None
        self.fields = tuple(fields)
        self.recurrent_fields = self.fields
        """The fields that the next iteration depends on; the others only accumulate values."""
        self.state = HookPoint()
        for field in self.fields[1:]:
            self.state.add_module(field, HookPoint())

    def encode(self, tokens: Any) -> Context:
        """All that an iteration may read besides the state; computed once."""
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

    def forward(
        self, tokens: Int[Tensor, "batch position"], iterations: int | None = None
    ) -> Float[Tensor, "batch position vocab"]:
        """The logits after `iterations` iterations (None: the model's own depth)."""
        return drive(self, tokens, iterations).logits

    def save(self, path: FilePath, name: str | None = None) -> Path:
        """Write the model as a checkpoint, which `loopscope.models.load` and every command read. An
        architecture or a task of your own is named there, not stored.

        >>> model.save("runs/mine")                        # runs/mine/NAME.safetensors
        >>> ls.models.load("runs/mine/mine.safetensors", architecture="mine.py")

        Arguments:
            path: a file that ends in .safetensors, or a folder.
            name: of the model; None: its `name`, else that of its architecture.

        Returns:
            the path of the file.

        Raises:
            LoopscopeError: the file can't be written, or the model has no `config`.
        """
        return save_named(self, path, name)

    def at_state(self, state: State) -> Any:
        """The state, after the hooks of its sites."""
        return through_sites(state, self.state)

    def halted_positions(self, state: State) -> Bool[Tensor, "batch position"] | None:
        """The positions whose answers are frozen; None for a model that freezes none."""
        return None

    def without_freezing(self, state: State) -> Any:
        """The state with the answers that frozen positions would have otherwise, if the state holds
        them."""
        return state

    def finished(self, state: State) -> bool:
        """Whether every position has halted; never for a model without halting."""
        halted = self.halted_positions(state)
        return halted is not None and bool(halted.all())

    def penalty(self, state: State, context: Context) -> Tensor:
        """The architecture's own term of the training loss, from the last state; 0 by default."""
        return primary(state).new_zeros(())

    def exit_probability(self, state: State) -> Tensor:
        """(batch, position): the probability of stopping after the iteration that returned `state`,
        given that the position didn't stop before."""
        raise LoopscopeError(
            f"{type(self).__name__} has no exit gate, so no exit_probability. Use another supervision than "
            "Exits or Gate."
        )

    def q_values(self, state: State) -> Tensor:
        """(batch, 1 or 2): the logit of halting, and that of continuing, at the end of a
        segment."""
        raise LoopscopeError(
            f"{type(self).__name__} has no Q-head, so no q_values. Use DeepSupervision(segments, weight=0), "
            "or another supervision."
        )

    def run_with_cache(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        tokens: Tensor,
        iterations: int | None = None,
        *,
        names_filter: NamesFilter = None,
        device: Any = None,
        remove_batch_dim: bool = False,
        incl_bwd: bool = False,
        pos_slice: Any = None,
        **_: Any,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """TransformerLens' method. Returns (logits, cache).

        The cache has an iteration axis in front for sites inside the loop: n + 1 entries for
        `state`, n for others. `loopscope.record` returns the same values with named axes.

        Raises:
            LoopscopeError: `incl_bwd`, or `remove_batch_dim` with more than one example.
        """
        from ..recorder.record_run import record

        if incl_bwd:
            raise LoopscopeError(
                "incl_bwd needs an output that is one number, but a looped model gives logits. "
                "Use run = loopscope.record(model, tokens, grad=True) and differentiate what you need."
            )
        if remove_batch_dim and len(tokens) != 1:
            raise LoopscopeError(
                f"remove_batch_dim needs a batch of 1, but it has {len(tokens)}. Leave the axis in."
            )
        sites = self._hook_names(names_filter)
        run = record(self, tokens, iterations, sites=sites)
        cache = {}
        for name in sites:
            if name not in run:
                continue  # this forward pass didn't call it
            site = run[name]
            looped = isinstance(site, States)
            values = site if looped else States(name, {(0,): site}, ("outside", *axes_of(name, site)), 1)
            values = values if pos_slice is None else values.at(position=_as_index(pos_slice))
            values = values.at(batch=0) if remove_batch_dim else values
            value = values.tensor if looped else values[0]
            cache[name] = value if device is None else value.to(device)
        return run.logits[-1], cache

    def _hook_names(self, names_filter: NamesFilter) -> list[str]:
        if names_filter is None:
            return list(self.hook_dict)
        if isinstance(names_filter, str):
            return [names_filter]
        if callable(names_filter):
            return [name for name in self.hook_dict if names_filter(name)]
        return list(names_filter)


def _as_index(pos_slice: Any) -> Any:
    """An index from any of the forms that TransformerLens accepts for positions: an int, a pair or
    triple, a list, a slice, its own Slice."""
    inner = getattr(pos_slice, "slice", pos_slice)
    return slice(*inner) if isinstance(inner, tuple) else inner
