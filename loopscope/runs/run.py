"""Run: one recorded forward pass, and how it was made."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..common.files import save_file
from ..core.looped_model import Context, Looped
from ..core.sites import is_state
from ..core.state_tree import State
from ..core.states import States
from ..halting.halting_record import Halting


class Run:
    """Tokens, states, sites, logits and halting of one forward pass.

    >>> run = record(model, tokens, iterations=32, sites=["core.0.attn.hook_pattern"])
    >>> run.states[3]                               # after 3 iterations
    >>> run["core.0.attn.hook_pattern"][3]          # inside iteration 3
    >>> run.logits[3]                               # its answer had it stopped there
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
        read: "Reader | None" = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> None:
        self.tokens = tokens
        """(batch, position)"""
        self.inputs = dict(inputs or {})
        """What else a model of others was given, by name: an attention mask, token types."""
        self.iterations = iterations
        """How many were run: fewer than asked for if the loop was left early."""
        self.output = output
        """What the model returned: for a zoo model the logits (batch, position, vocab) after the
        last iteration."""
        self.origin = dict(origin)
        """How it was made: entry, architecture, config, iterations asked for, edits, seed, keep,
        versions."""
        self.halting = halting
        self._sites, self._read = dict(sites), read

    @property
    def states(self) -> States:
        """The state after k iterations, k = 0..n; of a named tuple, its first field."""
        states = self["state"]
        assert isinstance(states, States)
        return states

    @property
    def names(self) -> list[str]:
        """Every site that was recorded."""
        return list(self._sites)

    def __getitem__(self, site: Any) -> Any:
        """A site's States, or its Tensor if it was called once, outside the loop. A number stands
        for `states[number]`."""
        if not isinstance(site, str):
            return self.states[site]
        if site not in self._sites:
            raise LoopscopeError(
                f"'{site}' was not recorded in this run. {nearest(site, self._sites)} "
                f"To have it: record(model, tokens, sites=[{site!r}])."
            )
        return self._sites[site]

    def with_sites(self, sites: Mapping[str, States | Tensor]) -> "Run":
        """The same run with other sites."""
        parts = {
            name: getattr(self, name)
            for name in ("tokens", "inputs", "iterations", "output", "origin", "halting")
        }
        return Run(**parts, sites=sites, read=self._read)

    def __contains__(self, site: str) -> bool:
        return site in self._sites

    def state(self, k: int) -> Any:
        """The whole state after k iterations, as the model's `step` and `decode` take it: a tensor
        or a named tuple."""
        if not self.origin.get("whole", True):
            raise LoopscopeError(
                f"state {k} was kept only in part (keep={self.origin['keep']}), so nothing can be computed "
                "from it. Record again with a keep= that leaves values whole: every(...) or last(...)."
            )
        first = self.states[k]
        fields = [self._sites[f"state.{name}"][k] for name in self.origin.get("fields", ())[1:]]
        if not fields:
            return first
        make = self.reader.state_type if self._read is not None else tuple
        return make(*[first, *fields]) if make is not tuple else (first, *fields)

    def given(self, rows: Sequence[int]) -> tuple[Tensor, dict[str, Any]]:
        """What the model was given, for these examples only (by number, also several times):
        tokens, further inputs."""
        return rows_of(self.tokens, self.inputs, rows)

    @property
    def logits(self) -> "Logits":
        """`logits[k]` (batch, position, vocab): the answer had the loop stopped after k
        iterations."""
        return Logits(self)

    @property
    def reader(self) -> "Reader":
        """The model that made this run, for what has to be computed from a state."""
        if self._read is None:
            raise LoopscopeError(
                "this run was loaded from a file and knows no model, so nothing can be computed from its "
                "states. Pass it: ls.load_run(path, model=model)."
            )
        return self._read

    @property
    def has_model(self) -> bool:
        """Whether the model that made this run is at hand, as `run.model` and `run.reader` need it."""
        return self._read is not None

    @property
    def model(self) -> Any:
        """The model that made this run, with the weights it had then."""
        return self.reader.model

    def cache(self, iteration: int = -1, **options: Any) -> Any:
        """One iteration, the last unless given, as TransformerLens' ActivationCache. See
        `loopscope.runs.activation_cache.cache`."""
        from .activation_cache import cache

        return cache(self, iteration, **options)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the run as one safetensors file with a JSON header. See `load_run`."""
        tensors: dict[str, Tensor] = {}
        aliases: dict[str, str] = {}
        seen: dict[tuple[Any, ...], str] = {}
        header: dict[str, Any] = {
            "kind": "run",
            "origin": self.origin,
            "iterations": self.iterations,
            "sites": {},
        }

        def put(key: str, value: Tensor) -> None:
            same = (value.data_ptr(), tuple(value.shape), value.stride(), value.dtype)
            if value.numel() and same in seen:
                aliases[key] = seen[same]
            else:
                seen[same] = key
                tensors[key] = value

        for name, site in self._sites.items():
            if isinstance(site, States):
                rows = {_key(index): mask.tolist() for index, mask in site.rows.items()}
                labels = [site.iteration_range.start, site.iteration_range.stop]
                header["sites"][name] = {"axes": site.axes, "labels": labels, "rows": rows}
                for index, value in site.items():
                    put(f"site/{name}/{_key(index)}", value)
            else:
                header["sites"][name] = None
                put(f"site/{name}/", site)
        for name, value in (("tokens", self.tokens), ("output", self.output)):
            if isinstance(value, Tensor):
                put(name, value)
        header["inputs"] = {}
        for name, value in self.inputs.items():
            if isinstance(value, Tensor):
                put(f"input/{name}", value)
            elif isinstance(value, str | int | float | bool | tuple | list | None):
                header["inputs"][name] = list(value) if isinstance(value, tuple) else value
            else:
                raise LoopscopeError(
                    f"a run's inputs must be tensors, numbers or words to be saved, but '{name}' is a "
                    f"{type(value).__name__}. Record without it, or set run.inputs[{name!r}] to what JSON "
                    "can say."
                )
        if self.halting is not None:
            for name, value in vars(self.halting).items():
                if isinstance(value, Tensor):
                    put(f"halting/{name}", value)
            header["halting"] = {"kind": self.halting.kind}
        return save_file(path, tensors, header | {"aliases": aliases})

    def nonfinite(self) -> tuple[str, int | None] | None:
        """The first site and iteration (None outside the loop) that holds NaN or infinity; None if
        all is finite.

        Sites are looked through in the order of the forward pass within an iteration.
        """
        firsts: list[tuple[int, int, str]] = []
        for order, (name, site) in enumerate(
            sorted(self._sites.items(), key=lambda item: item[0] == "state")
        ):
            masked = name.endswith("hook_attn_scores")  # the causal mask's -inf belongs there
            if not isinstance(site, States):
                bad = torch.isnan(site).any() if masked else ~torch.isfinite(site).all()
                if site.is_floating_point() and bool(bad):
                    return name, None
                continue
            for index, value in site.items():
                value = (
                    value[site.rows[index]] if index in site.rows else value
                )  # without those that have left
                bad = torch.isnan(value).any() if masked else ~torch.isfinite(value).all()
                if value.is_floating_point() and bool(bad):
                    # states[k] is made by iteration k - 1, after every site inside it
                    when = 2 * index[0] - 1 if is_state(name) else 2 * index[0]
                    firsts.append((when, order, name))
                    break
        if not firsts:
            return None
        when, _, name = min(firsts)
        return name, (when + 1) // 2 if is_state(name) else when // 2

    def require_finite(self) -> None:
        """Raise the sentence that says where NaN or infinity began; measures call it before they
        measure."""
        where = self.nonfinite()
        if where is not None:
            site, iteration = where
            place = "outside the loop" if iteration is None else f"at iteration {iteration}"
            raise LoopscopeError(
                f"the states must be finite, but '{site}' holds NaN or infinity from {place} on. "
                "Look at run[...] up to there, lower the learning rate or the scale of the weights, or "
                "record fewer iterations."
            )

    @property
    def nbytes(self) -> int:
        """Bytes kept in the recorded sites; a tensor that is two sites at once counts once."""
        unique: dict[int, int] = {}
        for site in self._sites.values():
            for value in (value for _, value in site.items()) if isinstance(site, States) else [site]:
                unique[value.data_ptr()] = value.nbytes
        return sum(unique.values())

    def __repr__(self) -> str:
        name = self.origin.get("entry") or self.origin.get("architecture")
        shape = self.states.shape[1:] if len(self.states.iterations) else ()
        sizes = [f"{size} {axis}" for size, axis in zip(shape, self.states.axes[1:], strict=False)]
        edits = f" · {len(self.origin['edits'])} edits" if self.origin.get("edits") else ""
        return f"Run {name} · {self.iterations} iterations · {' · '.join(sizes)} · {self.nbytes / 1e6:.1f} MB{edits}"


class Logits:
    """The read-out after any iteration: `[k]` a Tensor (batch, position, vocab), `[a:b]` a States
    with the iteration axis."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __getitem__(self, index: Any) -> Any:
        labels = range(self._run.iterations + 1)
        if isinstance(index, slice):
            present = set(self._run.states.iterations)
            values = {(k,): self[k] for k in labels[index] if k in present}
            return States("logits", values, ("iteration", "batch", "position", "vocab"), labels[index])
        if isinstance(index, tuple):
            rest = index[1:]
            return (
                self[index[0]][rest]
                if not isinstance(index[0], slice)
                else self[index[0]].tensor[(slice(None), *rest)]
            )
        k = self._run.states.iteration_at(index)
        if k == self._run.iterations and isinstance(self._run.output, Tensor):
            return self._run.output
        return self._run.reader.logits(self._run.state(k))

    @property
    def tensor(self) -> Tensor:
        """(iteration, batch, position, vocab), for the states that were kept."""
        return self[:].tensor

    def __len__(self) -> int:
        return self._run.iterations + 1

    def __iter__(self) -> Any:
        return (self[k] for k in range(len(self)))

    def __repr__(self) -> str:
        return f"Logits of {self._run!r}: [k] reads out states[k], k = 0..{self._run.iterations}"


class Reader:
    """What a run needs to compute from its states: the model, the context, and whether the weights
    are still the same."""

    def __init__(
        self,
        model: Any,
        context: Context,
        decode: Callable[[Any], Tensor] | None,
        state_type: Any,
        *,
        grad: bool,
        edited: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._model, self.context, self._decode, self.state_type, self.grad = (
            model,
            context,
            decode,
            state_type,
            grad,
        )
        self.edited = edited
        """A context in which the run's own edits of the read-out are made."""
        self._weights = _versions(model)

    @property
    def model(self) -> Any:
        if _versions(self._model) != self._weights:
            raise LoopscopeError(
                "the model's weights were changed after this run was recorded, so what is computed now "
                "would not be this run's. Record again, or load the weights it had."
            )
        return self._model

    def logits(self, state: State, grad: bool = False) -> Tensor:
        """Read out a state, under the run's own edits of the read-out. `grad`: with gradients also
        where the run has none."""
        if self._decode is None or self.model is None:
            raise LoopscopeError(
                "only the four functions can read out a state, and this module was wrapped by its loop body "
                "alone. run.output is what it returned after its last iteration."
            )
        with torch.set_grad_enabled(self.grad or grad):
            return self._decode(state)


def rows_of(tokens: Tensor, inputs: Mapping[str, Any], rows: Sequence[int]) -> tuple[Tensor, dict[str, Any]]:
    """Some examples of a model's inputs: the rows of every tensor that has one for each example."""
    chosen, many = list(rows), len(tokens)
    return tokens[chosen], {
        name: value[chosen] if isinstance(value, Tensor) and value.shape[:1] == (many,) else value
        for name, value in inputs.items()
    }


def _key(index: tuple[int, ...]) -> str:
    return ",".join(map(str, index))


def _versions(model: Any) -> tuple[tuple[int, int], ...]:
    parameters = model.parameters() if hasattr(model, "parameters") else ()
    return tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in parameters)


def iterable(run: Run) -> Looped:
    """The model of a run that can be iterated on, or the sentence that says why it can't."""
    model = run.model  # a run loaded without its model says so itself
    if not isinstance(model, Looped):
        raise LoopscopeError(
            "only a model with encode, initial, step and decode can be iterated on, and this module was "
            "wrapped by its loop body alone. Measure 'convergence' or 'cycles', which need only what was "
            "recorded."
        )
    if not isinstance(run.tokens, Tensor):
        raise LoopscopeError(
            "the examples of a run are told apart by the rows of its tokens, which must be a tensor, but "
            f"are {type(run.tokens).__name__}. Record with a tensor of tokens."
        )
    if not run.origin.get("whole", True):
        raise LoopscopeError(
            "whole states are needed to iterate from, but this run kept only a part of them "
            f"(keep={run.origin['keep']}). Record again with a keep= that leaves values whole: every(...) "
            "or last(...)."
        )
    return model
