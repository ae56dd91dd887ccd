"""Run: one recorded forward pass, with the record of how it was made."""

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Bool
from torch import Tensor

from ..common.arguments import Index
from ..common.errors import LoopscopeError, nearest
from ..common.guard import guarded
from ..core.counted import Counted, checked_mask
from ..core.lazy_values import form_at, identity_at
from ..core.looped_model import Looped
from ..core.states import States
from ..halting.halting_record import Halting
from .activation_cache import cache
from .example_inputs import select_inputs
from .finite import first_nonfinite
from .kept_form import restored
from .logits import Logits
from .reader import Reader
from .rebuilt_reader import PICKLED, WITHOUT_MODEL, reloaded_reader
from .run_copies import copied, detached
from .run_display import RunDisplay
from .run_mask import counted_of, require_counted, sequence_shape
from .run_memory import RunMemory
from .storage import save_run

if TYPE_CHECKING:
    from transformer_lens.ActivationCache import ActivationCache


class Run(RunDisplay):
    """Tokens, states, sites, logits and halting of one forward pass.

    >>> run = ls.record(model, tokens, iterations=32, sites=["core.0.attn.hook_pattern"])
    >>> run.states[3]                               # the state after 3 iterations
    >>> run["core.0.attn.hook_pattern"][3]          # the pattern inside iteration 3
    >>> run.logits[3]                               # the logits if the loop had stopped there
    """

    def __init__(
        self,
        *,
        tokens: Any,
        iterations: int,
        sites: Mapping[str, States | Tensor],
        output: Any,
        origin: Mapping[str, Any],
        halting: Halting | None = None,
        reader: Reader | None = None,
        inputs: Mapping[str, Any] | None = None,
        no_reader: str = WITHOUT_MODEL,
        counted: Counted | None = None,
        reload: Callable[[], Any] | None = None,
    ) -> None:
        """`no_reader`: why there is none, as a sentence; `reload` gives the model when it is
        needed."""
        self.tokens = tokens
        """(batch, position)"""
        self.inputs = dict(inputs or {})
        """Further arguments of a wrapped model, by name, such as an attention mask."""
        self.iterations = iterations
        """How many iterations ran: fewer than requested if the loop ended early."""
        self.output = output
        """The model's output: for a model with the four functions the logits (batch, position,
        vocab) after the last iteration."""
        self.origin = dict(origin)
        """The provenance: entry, architecture, config, requested iterations, edits, seed, keep,
        versions ..."""
        self.halting = halting
        self._sites, self._reader, self._no_reader = dict(sites), reader, no_reader
        self._counted = counted
        self.memory = RunMemory(self)
        """What was computed from this run, for whoever needs it next."""
        self._reload = reload

    @property
    def states(self) -> States:
        """The states after k = 0..n iterations; of a named-tuple state, its first field."""
        states = self["state"]
        assert isinstance(states, States)
        return states

    @property
    def counted(self) -> Counted:
        """Which positions count in pooled numbers, and what decided: a mask of `with_mask`, an
        attention mask, pad tokens (`loopscope.core.counted`)."""
        if self._counted is None:
            self._counted = counted_of(self)
        return self._counted

    @property
    def mask(self) -> Bool[Tensor, "batch position"]:
        """True where a position counts in pooled numbers."""
        return self.counted.mask

    def with_mask(self, mask: Any) -> "Run":
        """The same run with another choice of the positions that count. The model's own attention
        is not changed.

        Arguments:
            mask: bool (batch, position), True where a position counts; None: as the inputs and
                tokens say.

        Raises:
            LoopscopeError: another shape or type, or True nowhere.
        """
        if mask is None:
            return self.with_counted(None)
        return self.with_counted(
            Counted(checked_mask(mask, sequence_shape(self)), "the mask that was passed")
        )

    def with_counted(self, counted: Counted | None) -> "Run":
        """The same run with these positions counted; None: as the inputs and tokens say."""
        result = self.with_sites(self._sites)
        result._counted = counted
        return result

    @property
    def names(self) -> list[str]:
        """The names of all recorded sites."""
        return list(self._sites)

    def __getitem__(self, site: Any) -> Any:
        """A site's States, or its Tensor if it was called once, outside the loop. `run[k]` is
        `run.states[k]`.

        Raises:
            LoopscopeError: the site was not recorded.
        """
        if not isinstance(site, str):
            return self.states[site]
        if site not in self._sites:
            raise LoopscopeError(
                f"'{site}' was not recorded in this run. {nearest(site, self._sites)} "
                f"To have it: record(model, tokens, sites=[{site!r}])."
            )
        return self._sites[site]

    def with_sites(self, sites: Mapping[str, States | Tensor]) -> "Run":
        """A new run with these sites in place of the recorded ones."""
        new = copy(self)
        new._sites = dict(sites)
        return new

    def __contains__(self, site: str) -> bool:
        return site in self._sites

    def state(self, k: int) -> Any:
        """The whole state after k iterations, a tensor or a named tuple, as the model's `step` and
        `decode` take it: on its device, and in its dtype.

        Raises:
            LoopscopeError: states were kept only in part.
        """
        if not self.origin.get("whole", True):
            raise LoopscopeError(
                f"state {k} was kept only in part (keep={self.origin['keep']}), so nothing can be computed "
                "from it. Record again with a keep= that leaves values whole: every(...) or last(...)."
            )
        sites = ["state", *(f"state.{name}" for name in self.origin.get("fields", ())[1:])]
        forms = self.reader.forms if self.has_model else {}
        k = self.states.iteration_at(k)
        parts = [restored(self[site][k], forms.get(site), self.origin) for site in sites]
        if len(parts) == 1:
            return parts[0]
        state_type = self.reader.state_type if self.has_model else None
        return tuple(parts) if state_type is None else state_type(*parts)

    @guarded
    def select_inputs(self, rows: Sequence[Index]) -> tuple[Tensor, dict[str, Any]]:
        """The tokens and further inputs of these examples; an example may occur several times."""
        return select_inputs(self.tokens, self.inputs, rows)

    @property
    def logits(self) -> Logits:
        """`logits[k]` (batch, position, vocab): the logits if the loop had stopped after k
        iterations."""
        return Logits(self)

    @property
    def reader(self) -> Reader:
        """The model that made this run, with its context and read-out.

        Raises:
            LoopscopeError: the run was loaded from a file, or came from another process, without
                its model.
        """
        self._find_model()
        if self._reader is None:
            raise LoopscopeError(self._no_reader)
        return self._reader

    @property
    def has_model(self) -> bool:
        """Whether `run.model` and `run.reader` are available."""
        self._find_model()
        return self._reader is not None

    def _find_model(self) -> None:
        """Load the model of a run that came from another process, when it is first needed."""
        if self._reader is not None or self._reload is None:
            return
        reload, self._reload = self._reload, None
        try:
            self._reader = reloaded_reader(reload, self.origin, self.tokens, self.inputs)
        except LoopscopeError as error:
            self._no_reader = str(error)

    # Copies: the values travel, the model does not

    def __copy__(self) -> "Run":
        new = Run.__new__(Run)
        vars(new).update(vars(self))
        new.inputs, new.origin, new._sites = dict(self.inputs), dict(self.origin), dict(self._sites)
        new.memory = RunMemory(new)
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> "Run":
        """The values are copied; the model is the same."""
        new = copy(self)
        for name in ("tokens", "inputs", "output", "origin", "halting", "_sites"):
            setattr(new, name, copied(getattr(self, name), memo))
        return new

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled. A run of a zoo entry finds its model again; any other has none."""
        state = vars(self) | {"_reader": None}
        for name in ("tokens", "inputs", "output", "_sites"):
            state[name] = detached(state[name])
        if self._reader is not None:
            state["_reload"], state["_no_reader"] = self._reader.reload, PICKLED
        del state["memory"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, memory=RunMemory(self))

    @property
    def model(self) -> Any:
        """The model that made this run.

        Raises:
            LoopscopeError: the run has no model, or the model's weights were changed since.
        """
        return self.reader.model

    @guarded
    def cache(self, iteration: Index = -1, **options: Any) -> "ActivationCache":
        """One iteration (by default the last) as TransformerLens' ActivationCache, with the options
        of `loopscope.runs.activation_cache.cache`."""
        return cache(self, iteration, **options)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the run as one safetensors file with a JSON header; `loopscope.load_run` reads it.

        Raises:
            LoopscopeError: a further input of the model can't be written as JSON, or the file can't
                be written.
        """
        return save_run(self, path)

    def first_nonfinite(self) -> tuple[str, int | None] | None:
        """The first site and iteration (None outside the loop) with NaN or infinity, in the order
        of the forward pass; None if all values are finite where positions count."""
        return first_nonfinite(self)

    def require_finite(self) -> None:
        """Raise LoopscopeError if a recorded value that counts is NaN or infinite, or no position
        counts. Analyses call it first."""
        require_counted(self)
        where = first_nonfinite(self)
        if where is not None:
            site, iteration = where
            place = "outside the loop" if iteration is None else f"from iteration {iteration} on"
            raise LoopscopeError(
                f"the states must be finite, but '{site}' holds NaN or infinity {place}. "
                "Look at run[...] up to there, lower the learning rate or the scale of the weights, or "
                "record fewer iterations."
            )

    @property
    def nbytes(self) -> int:
        """Bytes of the recorded values; a tensor that is the value of two sites counts once."""
        unique: dict[Hashable, int] = {}
        for site in self._sites.values():
            values = site.by_index if isinstance(site, States) else {(): site}
            for index in values:  # none that is in a file is read
                form = form_at(values, index)
                identity = form.data_ptr() if isinstance(values, dict) else identity_at(values, index)
                unique[identity] = form.nbytes
        return sum(unique.values())


def check_uncached(run: Run) -> None:
    """Raise LoopscopeError if a run's iterations read what is gone: a cache, or other passes of a
    generation."""
    if run.origin.get("generated"):
        raise LoopscopeError(
            "the tokens of a generation can't be iterated on as one run, as what they read of each other "
            "came from several passes. Record them in one pass: ls.record(model, out.tokens[:, :-1])."
        )
    if run.origin.get("cached"):
        raise LoopscopeError(
            "a pass that read a cache can't be iterated on, as what its iterations read of earlier positions "
            "isn't there any more. Record the tokens so far in one pass, ls.record(model, tokens), or "
            "generate with use_cache=False."
        )


def iterable_model(run: Run) -> Looped:
    """The model of a run, for iterating on from the run's states.

    Raises:
        LoopscopeError: the run has no model, its model lacks the four functions, or its states were
            kept only in part.
    """
    model = run.model
    if run.reader.refusal is not None:
        raise LoopscopeError(run.reader.refusal)
    if not isinstance(model, Looped):
        raise LoopscopeError(
            "only a model with encode, initial, step and decode can be iterated on, and this module was "
            "wrapped by its loop body alone. Measure 'convergence' or 'cycles', which need only what was "
            "recorded."
        )
    if not isinstance(run.tokens, Tensor):
        raise LoopscopeError(
            "each row of a run's tokens is an example, so they must be a tensor, but "
            f"are {type(run.tokens).__name__}. Record with a tensor of tokens."
        )
    check_uncached(run)
    if not run.origin.get("whole", True):
        raise LoopscopeError(
            "whole states are needed to iterate from, but this run kept only a part of them "
            f"(keep={run.origin['keep']}). Record again with a keep= that leaves values whole: every(...) "
            "or last(...)."
        )
    return model
