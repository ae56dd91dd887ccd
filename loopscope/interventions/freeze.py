"""Freeze: hold a part of the state, or any site, at the value that it had, and let the rest go on.

    run = record(model, tokens, edits=[freeze("state.low", iteration=4)])       # states[4].low from there on

What is undone are updates. Frozen in iteration t, a state's field doesn't change in it: whatever
else that iteration computes reads the old value, and states[t+1] has it. A state that is updated
several times in an iteration (the low one of HRM and TRM) is held after each of these updates,
which a model names in `update_sites`:

    class Mine(LoopedModule):
        update_sites = {"high": (), "low": ("hook_low",)}   # by field: what an update passes

A model that says nothing is believed to update each field once, and each from the old values of the
others; one that seems not to is refused. After Shen, Su & Kyrillidis 2026 (arXiv 2605.17811), who
hold one state of a recursive model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.looped_model import Context, step_at
from ..core.sites import is_state
from ..core.state_tree import State, items, map_state
from .edits import Edit, Several

Writes = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Freeze(Several):
    """A site held at a value of its own, made by `freeze`."""

    site: str
    first: int
    """The first iteration that leaves it unchanged."""
    last: int | None
    """The first that changes it again; None: none does."""
    where: Mapping[str, Any] = field(default_factory=dict)

    def edits(self, fields: tuple[str, ...] = (), update_sites: Writes | None = None) -> list[Edit]:
        """The same as edits, with a memory of their own for one run.

        Arguments:
            fields: names of the state's tensors, the primary one first.
            update_sites: by field, the sites that an update of it passes.
        """
        held = Hold(self.site, "patch", None, slice(self.first, self.last), self.where, _Memory())
        inner = (update_sites or {}).get(field_of(self.site, fields) or "", ())
        return [held, *(replace(held, site=site, of=self.site) for site in inner)]

    def __str__(self) -> str:
        until = "on" if self.last is None else f"to before iteration {self.last}"
        place = "".join(f", {name}={at}" for name, at in self.where.items())
        return f"freeze of '{self.site}' from iteration {self.first} {until}{place}"


def freeze(site: str = "state", *, iteration: int | slice = 0, **where: Any) -> Freeze:
    """Hold a site at the value that it has when an iteration begins. A value for `edits=` of
    `record` and `resume`.

    Arguments:
        site: `state` (of a named tuple its first field), `state.<field>`, or a site inside the
            loop, which is held at what it gave in that iteration; in an inner loop each turn at its
            own.
        iteration: the first whose update is undone, and all after it; a slice: those alone.
            `slice(0, -1)` of the state lets the last iteration write it again.
        where: `position=`, `batch=`, `head=`: the part that is held, the rest is free.
    """
    chosen = iteration if isinstance(iteration, slice) else slice(iteration, None)
    bounds = (chosen.start, chosen.stop)
    if chosen.step not in (None, 1) or not all(
        bound is None or (hasattr(bound, "__index__") and not isinstance(bound, bool)) for bound in bounds
    ):
        raise LoopscopeError(
            "freeze holds a site through iterations that follow each other, so iteration must be one "
            f"number, from which on it is held, or a slice without a step, but is {iteration!r}."
        )
    first = 0 if chosen.start is None else int(chosen.start)
    return Freeze(site, first, None if chosen.stop is None else int(chosen.stop), where)


class _Memory:
    """What a frozen site had, by call within its iteration."""

    def __init__(self) -> None:
        self.values: dict[Any, Tensor] = {}
        self.calls: dict[Any, tuple[Any, int]] = {}
        self.now: tuple[Any, bool] = ((), False)

    def call(self, site: str, axes: tuple[str, ...], index: tuple[int, ...]) -> Any:
        """Which call of the site in an iteration this is."""
        before, count = self.calls.get((site, axes), (None, -1))
        count = count + 1 if before == index else 0
        self.calls[site, axes] = index, count
        return axes, index[1:], count


@dataclass(frozen=True, eq=False)
class Hold(Edit):
    """One site of a freeze, in one run."""

    memory: _Memory = field(default_factory=_Memory, repr=False)
    of: str | None = None
    """For a site that updates of a state's field pass: that field's own, whose value it takes."""

    def hits(self, axes: tuple[str, ...], index: tuple[int, ...], count: int | None) -> bool:
        turns = Edit(self.site, "patch", None, None, self.where)
        if "iteration" not in axes or not turns.hits(axes, index, None):
            return False
        state, t = is_state(self.site), index[axes.index("iteration")]
        frozen = self._frozen(None if count is None else count - state)
        if self.of is not None:
            self.memory.now = "state", False
            return t in frozen
        key = "state" if state else self.memory.call(self.site, axes, index)
        begins = t == frozen.start
        self.memory.now = key, begins
        # what iteration t leaves unchanged is states[t + 1], and what a site inside it gives
        return begins or t - state in frozen

    def apply(self, value: Tensor, axes: tuple[str, ...]) -> Tensor:
        key, begins = self.memory.now
        if begins:
            self.keep(value)
            return value
        if key not in self.memory.values:
            raise LoopscopeError(
                f"{self}: the value that it is held at must be seen first, as that iteration begins, but "
                "wasn't. Freeze from a later iteration on; a run that is resumed, from where it goes on or "
                "later."
            )
        return Edit(self.site, "patch", self.memory.values[key], None, self.where).apply(value, axes)

    def keep(self, value: Tensor) -> None:
        """Hold this from now on, if it is what now begins to be held."""
        key, begins = self.memory.now
        if begins:
            self.memory.values[key] = value.clone()  # the model may work in place

    def checked(self, start: int, n: int) -> None:
        """Say so if what it begins with is not among the iterations start..n-1 of a run."""
        frozen = self._frozen(n)
        if not start <= frozen.start < max(frozen.stop, n):
            raise LoopscopeError(
                f"{self}: it must begin at one of the iterations that are run, {start}..{n - 1}. "
                "Freeze from one of them on, or record more iterations."
            )

    def _frozen(self, n: int | None) -> range:
        """The iterations whose updates are undone, of n."""
        assert isinstance(self.iteration, slice)
        if n is None:
            n = 1 << 40
        first, last, _ = self.iteration.indices(n)
        return range(first, last)

    def __str__(self) -> str:
        assert isinstance(self.iteration, slice)
        return str(Freeze(self.of or self.site, self.iteration.start, self.iteration.stop, self.where))


def field_of(site: str, fields: tuple[str, ...]) -> str | None:
    """The state's field that a site is; None if it is none of a named tuple."""
    if not fields or not is_state(site):
        return None
    return fields[0] if site == "state" else site.removeprefix("state.")


def checked_writes(model: Any, frozen: Sequence[str], state: State, context: Context, *, t: int) -> None:
    """Say so if a field, held at the ends of iterations, would be missed inside one: others read it
    after its update.

    Of a model that doesn't say `update_sites` one iteration is run again and looked at: whether it
    has inner loops, and whether what becomes of one field was computed from what became of another.
    """
    said = getattr(model, "update_sites", None) or {}
    unsaid = [name for name in frozen if name not in said]
    if not unsaid:
        return
    clock, before = model.clock, model.clock.inner_loops
    with torch.enable_grad(), torch.random.fork_rng():
        given = map_state(lambda part: part.detach().requires_grad_(part.is_floating_point()), state)
        clock.inner_loops = set()
        try:
            new = step_at(model, given, context, t)
        finally:
            inner, clock.inner_loops = clock.inner_loops, before
    for name in unsaid:
        made = getattr(new, name).grad_fn
        others = [
            other
            for other, part in items(new).items()
            if other != name and made is not None and _reads(part.grad_fn, made)
        ]
        if others or inner:
            why = (
                f"{type(model).__name__} has inner loops ({', '.join(sorted(inner))}) that may update it "
                "several times"
                if inner
                else f"{type(model).__name__} computes '{others[0]}' from its new value within an iteration"
            )
            raise LoopscopeError(
                f"to freeze '{name}' it must be held after every update, but {why}. Pass each update "
                "through a HookPoint and "
                f'say so in the model: update_sites = {{"{name}": ("hook_{name}",)}}; (), if it is written '
                "last and once."
            )


def _reads(node: Any, made: Any) -> bool:
    """Whether a node of the graph was computed from another."""
    seen, heap = set(), [node]
    while heap:
        one = heap.pop()
        if one is made and one is not None:
            return True
        if one is not None and one not in seen:
            seen.add(one)
            heap += [before for before, _ in one.next_functions]
    return False
