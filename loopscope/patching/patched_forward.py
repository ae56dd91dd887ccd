"""resumed: what a model does after a write, for many writes at once, without running again what
came before them.

A patched pass differs from the run only from the write on, so each goes on from the run's own state
at its iteration. Passes that begin at different iterations share a batch: a pass joins when its
time comes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.hooks import TemporaryHooks
from ..core.looped_model import Context, Looped, step_at
from ..core.sites import find_tensor, get_at, put_at, site_modules
from ..core.state_tree import State, from_tensors, map_state, repeat_rows, select_rows, tensors
from ..runs.location import Place, value_at
from ..runs.run import Run, iterable_model
from .places import Cell, whole
from .replacements import Source

TOKENS, LOGITS = 8192, 64_000_000
"""Positions (rows times sequence) that are computed at once, and the most logits that these may
have."""
WORK = 3e11
"""Multiplications that a section of a report may cost: seconds on a laptop."""


@dataclass(frozen=True)
class Outcome:
    """States of patched passes after k iterations. The passes of cell c are rows c * batch ... (c +
    1) * batch."""

    cells: Sequence[Cell]
    """Those of this batch; a pass whose iteration lies beyond k has not begun."""
    k: int
    state: State
    context: Context


def resumable(run: Run) -> Looped:
    """The model of a run that patched passes can go on from, or the sentence that says why they
    can't."""
    if run.origin.get("edits"):
        raise LoopscopeError(
            "patches are compared with the run without them, but this run has edits itself "
            f"({run.origin['edits']}), which are not made again. Record it without edits."
        )
    return iterable_model(run)


def writable(run: Run) -> bool:
    """Whether every state of a run can be written at a position and gone on with, and has answers
    that can be compared."""
    if run.states.axes != ("iteration", "batch", "position", "width") or run.iterations < 2:
        return False
    if run.states.iterations != list(range(run.iterations + 1)):
        return False
    try:
        resumable(run)
    except LoopscopeError:
        return False
    return run.output.ndim == 3 and bool(run.output.isfinite().all())


def affordable(run: Run, cells: int, examples: int, iterations: int) -> bool:
    """Whether so many writes, each followed for so many iterations in so many examples, are a
    matter of seconds.

    Counted is one multiplication for each weight, position and iteration, the embedding's among
    them: a rough upper bound.
    """
    weights = sum(p.numel() for p in run.model.parameters())
    return cells * examples * run.states.shape[2] * iterations * weights <= WORK


class Resumed:
    """Goes on with a run, again and again, each time with other writes."""

    def __init__(self, run: Run, source: Source) -> None:
        self.run, self.source, self.model = run, source, resumable(run)
        self.batch = len(run.states[run.states.iterations[0]])
        self.iterations = int(run.origin.get("requested_iterations", run.iterations))
        """How far each pass goes: as far as the run was asked to, also where the run could leave
        the loop earlier."""
        self._contexts: dict[int, Any] = {}

    def outcomes(
        self, cells: Sequence[Cell], tokens: int | None = None, until: int | None = None
    ) -> Iterator[Outcome]:
        """The states after every iteration, from each cell's own on; cells in any order, few at a
        time.

        Arguments:
            tokens: positions that are computed at once; None: TOKENS, fewer where the vocabulary is
                large.
            until: the last k; None: as far as the run was asked to go.
        """
        last = self.iterations if until is None else min(until, self.iterations)
        each = self.batch * max(1, self.run.tokens.shape[1] if self.run.tokens.ndim > 1 else 1)
        wide = self.run.output.shape[-1] if isinstance(self.run.output, Tensor) else 1
        size = max(1, (min(TOKENS, LOGITS // wide) if tokens is None else tokens) // each)
        ordered = sorted(cells, key=lambda cell: cell.iteration)
        for begin in range(0, len(ordered), size):
            yield from self._together(ordered[begin : begin + size], last)

    def decode(self, outcome: Outcome) -> Tensor:
        """The logits, (cell, batch, position, vocab)."""
        with torch.no_grad():
            logits = self.model.decode(outcome.state, outcome.context)
        return logits.unflatten(0, (len(outcome.cells), self.batch))

    @torch.no_grad()
    def _together(self, cells: Sequence[Cell], last: int) -> Iterator[Outcome]:
        context = self._context(len(cells))
        start = cells[0].iteration
        state = None
        inside = {place.site for cell in cells for place in cell.places if not whole(place)}
        ended: list[int] = []
        modules = site_modules(self.model) if inside else {}
        with TemporaryHooks() as taps:
            for site in inside:
                taps.attach(modules[site], after=self._writing(site, cells))
            for k in range(start, last + 1):
                beginning = [c for c, cell in enumerate(cells) if cell.iteration == k]
                if beginning:
                    own = repeat_rows(self.run.state(k), len(cells))
                    state = own if state is None else self._joined(state, own, beginning)
                    state = self._written(state, cells, beginning)
                ended = self._ended(state, cells, k, ended)
                yield Outcome(cells, k, state, context)
                if k == last or len(ended) == len(cells):
                    break
                state = self._joined(step_at(self.model, state, context, k), state, ended)
            for later in range(k + 1, last + 1):  # every pass has left the loop
                yield Outcome(cells, later, state, context)

    def _context(self, count: int) -> Any:
        if count not in self._contexts:
            if len(self._contexts) > 1:  # whole chunks and the last one
                self._contexts.clear()
            tokens, inputs = self.run.select_inputs(list(range(self.batch)) * count)
            with torch.no_grad():
                self._contexts[count] = self.model.encode(tokens, **inputs)
        return self._contexts[count]

    def _ended(self, state: State, cells: Sequence[Cell], k: int, ended: list[int]) -> list[int]:
        """The cells whose passes have left the loop by now, as `unroll` leaves it, or go no
        further."""
        if self.model.training:
            return ended
        running = [c for c, cell in enumerate(cells) if cell.iteration <= k and c not in ended]
        return ended + [c for c in running if self.model.finished(select_rows(state, self._rows(c)))]

    def _joined(self, state: State, other: Any, chosen: Sequence[int]) -> Any:
        """A state whose rows of the chosen cells are those of the other."""
        if not chosen:
            return state

        def joined(part: Tensor, source: Tensor) -> Tensor:
            new = part.clone()
            for c in chosen:
                new[self._rows(c)] = source[self._rows(c)]
            return new

        return map_state(joined, state, other)

    def _written(self, state: State, cells: Sequence[Cell], beginning: Sequence[int]) -> Any:
        """The state with what the cells write into it at its own sites."""
        names = list(self.run.origin.get("fields", ()))
        fields = tensors(state)
        for number, field in enumerate(fields):
            site = "state" if number == 0 else f"state.{names[number]}"
            chosen = [(c, place) for c in beginning for place in cells[c].places if place.site == site]
            if chosen:
                fields[number] = self._patched(field, cells, chosen)
        return from_tensors(state, fields)

    def _writing(self, site: str, cells: Sequence[Cell]) -> Any:
        """A tap that writes at a site inside an iteration."""

        def after(args: Any, kwargs: Any, output: Any) -> Any:
            index = self.model.clock.index
            if not index or self.model.clock.hidden:
                return output
            now = [
                (c, place)
                for c, cell in enumerate(cells)
                for place in cell.places
                if place.site == site and (cell.iteration, *place.inner) == index
            ]
            if not now:
                return output
            base = self._base(now[0][1], index[0])
            like = base.new_empty((len(base) * len(cells), *base.shape[1:]), device="meta")
            path = find_tensor(output, like)
            if path is None:
                return output
            return put_at(output, path, self._patched(get_at(output, path), cells, now))

        return after

    def _patched(self, value: Tensor, cells: Sequence[Cell], chosen: Sequence[tuple[int, Place]]) -> Tensor:
        new = value.clone()
        known: dict[tuple[Place, int], Tensor] = {}
        for c, place in chosen:
            cell = cells[c]
            key = (place, cell.iteration)
            if key not in known:
                known[key] = self.source(*key, self._base(*key))
            rows = self._rows(c)
            new[rows] = torch.where(cell.mask(place, value), known[key].to(value.dtype), value[rows])
        return new

    def _base(self, place: Place, iteration: int) -> Tensor:
        result = value_at(self.run, place, iteration)
        if result is None:
            raise LoopscopeError(
                f"'{place}' has no value at iteration {iteration} in this run. Choose iterations that it ran."
            )
        return result

    def _rows(self, c: int) -> slice:
        return slice(c * self.batch, (c + 1) * self.batch)
