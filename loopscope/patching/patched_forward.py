"""Patched forward passes: a pass is resumed from the run's own state at the iteration that is
patched, so nothing before the patch is computed again.

Many patches share a batch. Passes that are patched at different iterations join the batch when
their iteration comes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.hooks import TemporaryHooks
from ..core.looped_model import Context, Looped, step_at
from ..core.sites import find_tensor, get_at, is_state, put_at, site_modules
from ..core.state_tree import State, from_tensors, map_state, repeat_rows, select_rows, tensors
from ..runs.location import Place, value_at
from ..runs.output_logits import output_logits, position_logits
from ..runs.run import Run, iterable_model
from ..runs.run_mask import mask_of
from .patch_cell import PatchCell
from .replacements import Replacement

TOKENS, LOGITS = 8192, 64_000_000
"""Positions (rows times sequence) that are computed at once, and the largest number of logits that
these may have."""
WORK = 3e11
"""Multiplications that a section of a report may cost: seconds on a laptop."""


@dataclass(frozen=True)
class PatchedStates:
    """States of patched passes after k iterations. Rows c * batch ... (c + 1) * batch are the pass
    of cell c."""

    cells: Sequence[PatchCell]
    """Those of this batch; the pass of a cell whose iteration lies beyond k has not started."""
    k: int
    state: State
    context: Context


def model_to_patch(run: Run) -> Looped:
    """The model of a run from which patched passes can be resumed.

    Raises:
        LoopscopeError: the run has edits, or its model lacks the four functions.
    """
    if run.origin.get("edits"):
        raise LoopscopeError(
            "patches are compared with the run without them, but this run has edits itself "
            f"({run.origin['edits']}), which are not made again. Record it without edits."
        )
    return iterable_model(run)


def patchable(run: Run) -> bool:
    """Whether every state of a run can be patched at a position, and its answers can be compared.
    The first may be absent, where something comes between two calls of a body."""
    if run.states.axes != ("iteration", "batch", "position", "width") or run.iterations < 2:
        return False
    known = range(run.states.iterations[0], run.iterations + 1)
    if known.start > 1 or run.states.iterations != list(known):
        return False
    try:
        model_to_patch(run)
    except LoopscopeError:
        return False
    logits = position_logits(run)
    if logits is None:
        return False
    counted = mask_of(run, *logits.shape[:2]).to(logits.device)
    return bool(logits[counted].isfinite().all())


def affordable_examples(run: Run, iterations: int, most: int) -> int:
    """In how many examples, `most` of them or fewer, so many patched iterations of each take
    seconds.

    It counts one multiplication for each weight (the embedding's among them), position and
    iteration: a rough upper bound.

    Arguments:
        iterations: those that are computed again for one example, over all its patched passes.
    """
    weights = sum(p.numel() for p in run.model.parameters())
    each = max(1, iterations * run.states.shape[2] * weights)
    return min(most, int(WORK // each))


class PatchedForward:
    """Resumes a run's forward pass from any iteration with activations replaced."""

    def __init__(self, run: Run, replacement: Replacement) -> None:
        self.run, self.replacement, self.model = run, replacement, model_to_patch(run)
        self.batch = len(run.states[run.states.iterations[0]])
        self.iterations = int(run.origin.get("requested_iterations", run.iterations))
        """Iterations of each pass: the number that the run was recorded for, also where the run
        left the loop earlier."""
        self._contexts: dict[int, Context] = {}

    def states_after(
        self, cells: Sequence[PatchCell], tokens: int | None = None, until: int | None = None
    ) -> Iterator[PatchedStates]:
        """The states of patched passes after every iteration, from each cell's own on. The cells
        may be in any order; they are run in batches.

        Arguments:
            tokens: positions that are computed at once; None: TOKENS, fewer where the vocabulary is
                large.
            until: the last k; None: all iterations.
        """
        last = self.iterations if until is None else min(until, self.iterations)
        each = self.batch * max(1, self.run.tokens.shape[1] if self.run.tokens.ndim > 1 else 1)
        logits = output_logits(self.run)
        wide = 1 if logits is None else logits.shape[-1]
        size = max(1, (min(TOKENS, LOGITS // wide) if tokens is None else tokens) // each)
        ordered = sorted(cells, key=lambda cell: cell.iteration)
        for start in range(0, len(ordered), size):
            yield from self._run_batch(ordered[start : start + size], last)

    def decode(self, patched: PatchedStates) -> Float[Tensor, "cell batch position vocab"]:
        """The logits of each cell's pass."""
        with self.run.reader.as_recorded(), torch.no_grad():
            logits = self.model.decode(patched.state, patched.context)
        return logits.unflatten(0, (len(patched.cells), self.batch))

    @torch.no_grad()
    def _run_batch(self, cells: Sequence[PatchCell], last: int) -> Iterator[PatchedStates]:
        context = self._context(len(cells))
        start = cells[0].iteration
        state = None
        finished: list[int] = []
        for k in range(start, last + 1):
            starting = [c for c, cell in enumerate(cells) if cell.iteration == k]
            if starting:
                original = repeat_rows(self.run.state(k), len(cells))
                state = original if state is None else self._with_rows(state, original, starting)
                state = self._patch_state(state, cells, starting)
            with self.run.reader.as_recorded():
                finished = self._finished(state, cells, k, finished)
            yield PatchedStates(cells, k, state, context)
            if k == last or len(finished) == len(cells):
                break
            with self._patching(cells):
                new = step_at(self.model, state, context, k)
            state = self._with_rows(new, state, finished)
        for later in range(k + 1, last + 1):  # every pass has left the loop
            yield PatchedStates(cells, later, state, context)

    @contextmanager
    def _patching(self, cells: Sequence[PatchCell]) -> Iterator[None]:
        """A block in which the patches at sites inside an iteration apply."""
        inside = {place.site for cell in cells for place in cell.places if not is_state(place.site)}
        modules = site_modules(self.model) if inside else {}
        with self.run.reader.as_recorded(), TemporaryHooks() as hooks:
            for site in inside:
                hooks.attach(modules[site], after=self._hook(site, cells))
            yield

    def _context(self, count: int) -> Context:
        if count not in self._contexts:
            if len(self._contexts) > 1:  # those of full batches and of the last one
                self._contexts.clear()
            tokens, inputs = self.run.select_inputs(list(range(self.batch)) * count)
            with self.run.reader.as_recorded(), torch.no_grad():
                self._contexts[count] = self.model.encode(tokens, **inputs)
        return self._contexts[count]

    def _finished(self, state: State, cells: Sequence[PatchCell], k: int, finished: list[int]) -> list[int]:
        """The cells whose passes have left the loop after k iterations, by the rule of
        `unroll`."""
        if self.model.training:
            return finished
        running = [c for c, cell in enumerate(cells) if cell.iteration <= k and c not in finished]
        return finished + [c for c in running if self.model.finished(select_rows(state, self._rows(c)))]

    def _with_rows(self, state: State, other: State, cells: Sequence[int]) -> State:
        """`state`, with the rows of these cells taken from `other`."""
        if not cells:
            return state

        def combined(part: Tensor, source: Tensor) -> Tensor:
            result = part.clone()
            for c in cells:
                result[self._rows(c)] = source[self._rows(c)]
            return result

        return map_state(combined, state, other)

    def _patch_state(self, state: State, cells: Sequence[PatchCell], starting: Sequence[int]) -> State:
        """The state with the patches that these cells make at `state` and its fields."""
        names = list(self.run.origin.get("fields", ()))
        fields = tensors(state)
        for number, value in enumerate(fields):
            site = "state" if number == 0 else f"state.{names[number]}"
            patches = [(c, place) for c in starting for place in cells[c].places if place.site == site]
            if patches:
                fields[number] = self._patch_tensor(value, cells, patches)
        return from_tensors(state, fields)

    def _hook(self, site: str, cells: Sequence[PatchCell]) -> Callable[[Any, Any, Any], Any]:
        """A hook that patches a site inside an iteration."""

        def after(args: Any, kwargs: Any, output: Any) -> Any:
            index = self.model.clock.index
            if not index or self.model.clock.hidden:
                return output
            patches = [
                (c, place)
                for c, cell in enumerate(cells)
                for place in cell.places
                if place.site == site and (cell.iteration, *place.inner) == index
            ]
            if not patches:
                return output
            original = self._original(patches[0][1], index[0])
            like = original.new_empty((len(original) * len(cells), *original.shape[1:]), device="meta")
            path = find_tensor(output, like)
            if path is None:
                return output
            return put_at(output, path, self._patch_tensor(get_at(output, path), cells, patches))

        return after

    def _patch_tensor(
        self, value: Tensor, cells: Sequence[PatchCell], patches: Sequence[tuple[int, Place]]
    ) -> Tensor:
        result = value.clone()
        replacements: dict[tuple[Place, int], Tensor] = {}
        for c, place in patches:
            cell = cells[c]
            key = (place, cell.iteration)
            if key not in replacements:
                replacements[key] = self.replacement(*key, self._original(*key))
            rows = self._rows(c)
            result[rows] = torch.where(cell.mask(place, value), replacements[key].to(value), value[rows])
        return result

    def _original(self, place: Place, iteration: int) -> Tensor:
        """The run's own value."""
        result = value_at(self.run, place, iteration)
        if result is None:
            raise LoopscopeError(
                f"'{place}' has no value at iteration {iteration} in this run. Choose iterations that it ran."
            )
        return result

    def _rows(self, c: int) -> slice:
        return slice(c * self.batch, (c + 1) * self.batch)
