"""The base of every model in the zoo: a TransformerLens root module whose forward pass is the
driver."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.HookedRootModule import HookedRootModule

from ..common.errors import LoopscopeError
from ..core.loop_index import Clock
from ..core.looped_model import Context, drive
from ..core.readout import ReadOut
from ..core.sites import axes_of
from ..core.state_tree import State, primary, through_sites
from ..core.states import States
from ..halting.no_halting import NoHalting

NamesFilter = Callable[[str], bool] | Sequence[str] | str | None


class LoopedModule(NoHalting, ReadOut, HookedRootModule):
    """A looped transformer: subclasses give `encode`, `initial`, `step` and `decode`, and call
    `setup()` at the end.

    The sites `state` (and `state.<field>` for a named tuple) are hook points that the driver passes
    every state through, before it is read by the next iteration or by the read-out.
    """

    update_sites: Mapping[str, Sequence[str]] = {}
    """By field of the state: the sites that an update of it passes within an iteration, before
    others read it; () for one that is written once and last. What `loopscope.freeze` holds."""

    def __init__(self, iterations: int, vocabulary: int, fields: Sequence[str] = ()) -> None:
        """`fields`: the names of the state's tensors, the primary one first, if it is a named
        tuple."""
        super().__init__()
        self.iterations, self.vocabulary = iterations, vocabulary
        self.clock = Clock()
        self.name: str | None = None
        self.task: Any = None
        self.fields = tuple(fields)
        self.recurrent_fields = self.fields
        """The fields that the next iteration depends on; the others only keep accounts of them."""
        self.state = HookPoint()
        for field in self.fields[1:]:
            self.state.add_module(field, HookPoint())

    def encode(self, tokens: Any) -> Context:
        raise NotImplementedError(f"{type(self).__name__} must say what encode(tokens) gives.")

    def initial(self, context: Context) -> State:
        raise NotImplementedError(f"{type(self).__name__} must say what initial(context) gives.")

    def step(self, state: State, context: Context, t: int) -> State:
        raise NotImplementedError(f"{type(self).__name__} must say what step(state, context, t) gives.")

    def decode(self, state: State, context: Context) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must say what decode(state, context) gives.")

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        """`unembed` after `ln_final`, where a model has parts of these names; one that hasn't says
        otherwise."""
        norm, unembed = getattr(self, "ln_final", None), getattr(self, "unembed", None)
        if unembed is None:
            return super().logits_of(h, context)
        return unembed(h if norm is None else norm(h))

    def forward(
        self, tokens: Int[Tensor, "batch position"], iterations: int | None = None
    ) -> Float[Tensor, "batch position vocab"]:
        """The logits after `iterations` iterations (None: the model's own depth)."""
        return drive(self, tokens, iterations).logits

    def at_state(self, state: State) -> Any:
        """Pass a state through its sites."""
        return through_sites(state, self.state)

    def halted_positions(self, state: State) -> Bool[Tensor, "batch position"] | None:
        """Which positions' answers stand from now on; None for a model that freezes none."""
        return None

    def without_freezing(self, state: State) -> Any:
        """The state as it would be read out if nothing had been frozen, where the architecture lets
        that be told."""
        return state

    def finished(self, state: State) -> bool:
        """Whether every position has halted. A model without halting never finishes early."""
        stopped = self.halted_positions(state)
        return stopped is not None and bool(stopped.all())

    def penalty(self, state: State, context: Context) -> Tensor:
        """What the architecture adds to the training loss (nothing, unless it says so), read from
        the last state."""
        return primary(state).new_zeros(())

    def exit_probability(self, state: State) -> Tensor:
        """(batch, position): the chance of stopping after the iteration that made `state`, for one
        that goes on till then."""
        raise LoopscopeError(
            f"{type(self).__name__} has no exit gate, so no exit_probability. Use another supervision than "
            "Exits or Gate."
        )

    def q_values(self, state: State) -> Tensor:
        """(batch, 1 or 2): logits that the answers are all right, and that going on is worth while,
        at the end of a segment."""
        raise LoopscopeError(
            f"{type(self).__name__} has no Q-head, so no q_values. Use Carried(segments, weight=0), or "
            "another supervision."
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
        """TransformerLens' call: (logits, cache). A site inside the loop holds its whole stack of
        iterations.

        Returns:
            cache: by hook name, (iteration, ..., batch, position, ...) for a looped site: n+1
                entries for `state`, n for
            the others; without the iteration axis for a site outside the loop. `loopscope.record`
                gives the same with named axes.
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
        wanted = self._filtered(names_filter)
        run = record(self, tokens, iterations, sites=wanted)
        cache = {}
        for name in wanted:
            if name not in run:
                continue  # a part that this forward pass never came to
            site = run[name]
            kept = (
                site
                if isinstance(site, States)
                else States(name, {(0,): site}, ("outside", *axes_of(name, site)), 1)
            )
            kept = kept if pos_slice is None else kept.at(position=_as_index(pos_slice))
            kept = kept.at(batch=0) if remove_batch_dim else kept
            value = kept.tensor if isinstance(site, States) else kept[0]
            cache[name] = value if device is None else value.to(device)
        return run.logits[-1], cache

    def _filtered(self, names_filter: NamesFilter) -> list[str]:
        if names_filter is None:
            return list(self.hook_dict)
        if isinstance(names_filter, str):
            return [names_filter]
        if callable(names_filter):
            return [name for name in self.hook_dict if names_filter(name)]
        return list(names_filter)


def _as_index(pos_slice: Any) -> Any:
    """TransformerLens' ways to name positions, as an index: an int, a pair or triple, a list, a
    slice, its own Slice."""
    inner = getattr(pos_slice, "slice", pos_slice)
    return slice(*inner) if isinstance(inner, tuple) else inner
