"""IterationMap: one iteration of a run's model as a map of flat states, to be iterated, solved or
differentiated.

    loop = IterationMap(run, rows=[0, 3])
    loop.starts                  # (2, n): states[0] of examples 0 and 3
    loop(loop.starts)            # (2, n): after one iteration

All floating-point tensors of the state are part of the vector; of a named tuple those that the
model lists as `recurrent_fields`, one after the other. The other fields only keep records
(halting's sums and counters), and stay as they are. The map is the model's own `step`, with no
hooks of a recording and none of the run's edits.

Positions that don't count (`run.mask`) are no part of the vector: of each row it has those that
count, one after the other, and zeros up to the longest row. Only where the others influence them,
the vector is the whole state, and `note` says so.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from ..core.containers import is_container, map_parts
from ..core.looped_model import Context, first_state, step_at
from ..core.state_tree import State, floats, map_state, select_rows
from ..maths.jacobian import differentiable_attention
from ..maths.precision import has_64_bits, resolution, wide
from ..runs.example_inputs import select_inputs
from ..runs.run import Run, iterable_model
from ..runs.run_mask import mask_at
from .context_tensors import leaves_of, with_leaves
from .counted_part import CountedPart
from .state_vector import StateVector

_LEAK = 1e-5
"""A relative change of the image that is more than rounding."""
_TIMES = (0, 1, 2, 7)
"""Iterations, counted from the start and from the end of the run, whose maps are compared."""


class IterationMap:
    """x -> F(x) for some examples of a run, (row, n) to (row, n). An example may occur several
    times."""

    def __init__(self, run: Run, rows: Sequence[int] | None = None, double: bool = True) -> None:
        """
        Arguments:
            rows: examples, by number; None means all.
            double: use a copy of the model in double precision, where that works: the same weights,
                with smaller rounding errors.
        """
        self._model = iterable_model(run)
        self._as_recorded = run.reader.as_recorded
        batch = len(run.states[run.states.iterations[0]])
        self.rows = list(range(batch)) if rows is None else [int(row) for row in rows]
        self._tokens, self._inputs = run.tokens, run.inputs
        self._model_fields = tuple(getattr(self._model, "recurrent_fields", ()) or ())
        self._vector = StateVector(run, self._model_fields)
        self.iterations = run.iterations
        """Iterations of the run; `t` in a call is this number unless it is passed."""
        self.double = False
        with self._as_recorded(draws=True):  # what draws is found below
            self.double = double and self._use_double_precision()
        """Whether it computes in double precision."""
        self._context = self._encode(self.rows)
        self.note = self._leave_out(run)
        """What must be said of positions that don't count, as a sentence; empty if nothing."""
        self.first, start = self._initial()
        """The k of `starts`: 0, or 1 for a module whose first state isn't seen."""
        self.starts = self.flat(start)
        part = self._vector.part
        self.positions = _positions(run) if part is None else part.length
        """How many positions of the primary tensor are in the vector; None if it has no such
        axis."""

    def __call__(self, x: Tensor, t: int | None = None) -> Tensor:
        """F(x). The model receives the iteration index `t`; None means the one after the run's
        last."""
        return self._step(x, self._context, self.iterations if t is None else t)

    def at(self, k: int, run: Run) -> Tensor:
        """states[k] of the rows, (row, n)."""
        return self.flat(run.state(k), self.rows)

    def select_rows(self, places: Sequence[int]) -> "IterationMap":
        """The map for some of the rows, by their place; a place may occur several times."""
        other = copy.copy(self)
        other.rows = [self.rows[place] for place in places]
        other._context = self._encode(other.rows)
        if self._vector.part is not None:
            other._vector = copy.copy(self._vector)
            other._vector.part = self._vector.part.select(list(places))
        other.starts = self.starts[list(places)]
        return other

    def trajectory(self, x: Tensor, iterations: int, start: int = 0) -> Iterator[Tensor]:
        """x and the states after it, `iterations` of them, with t counting from `start`."""
        yield x
        with torch.no_grad():
            for t in range(start, start + iterations):
                x = self(x, t)
                yield x

    def primary(self, x: Tensor) -> Tensor:
        """The primary tensor's part of flat states, (row, position, width): one position if it has
        no such axis."""
        part = x[:, : next(iter(self._vector.widths().values()))]
        return part.reshape(len(x), self.positions or 1, -1)

    def on_positions(self, values: Tensor, absent: float = float("nan")) -> Tensor:
        """Values (row, ..., position) of the positions in the vector, by their positions in the
        run; `absent` where a position doesn't count."""
        part = self._vector.part
        return values if part is None else part.on_positions(values, absent)

    def cleaned(self, x: Tensor) -> Tensor:
        """Flat states (row, n) with zeros beyond the end of each row."""
        return self._vector.cleaned(x)

    def start_mask(self) -> Bool[Tensor, " n"]:
        """True for the numbers of a state that another start may change: the primary tensor and
        others of its shape. Halting's sums and counters always start from the model's own
        values."""
        return self._vector.start_mask()

    @property
    def is_time_invariant(self) -> bool:
        """Whether every iteration applies the same map, so that there can be a fixed point: F
        doesn't depend on the iteration index t."""
        with torch.no_grad():
            x = list(self.trajectory(self.starts, 2, self.first))[-1]
            times = [*(self.first + t for t in _TIMES), *(self.iterations + t for t in _TIMES)]
            images = [torch.nan_to_num(self._step(x, self._context, t)) for t in dict.fromkeys(times)]
        size = float(images[0].norm())
        return all(
            float((image - images[0]).norm()) <= 1e-5 * size or torch.equal(image, images[0])
            for image in images
        )

    @property
    def is_deterministic(self) -> bool:
        """Whether the same state gives the same image twice."""
        with torch.no_grad():
            first, second = (self._step(self.starts, self._context, self.first) for _ in range(2))
        return torch.equal(torch.nan_to_num(first), torch.nan_to_num(second))

    # Inputs of the loop

    def inputs(self) -> Tensor | None:
        """The part of the context that depends on the tokens and that every iteration reads,
        (row, m); None if there is none."""
        with torch.no_grad():
            numbers = self._token_dependent()
        if not numbers:
            return None
        leaves = [self._vector.counted(leaf) for leaf in leaves_of(self._context)]
        return torch.cat([leaves[i].reshape(len(self.rows), -1) for i in numbers], 1)

    def with_inputs(self, x: Tensor, inputs: Tensor) -> Tensor:
        """F(x, e): one iteration with other `inputs` e, (row, m)."""
        leaves, at = leaves_of(self._context), 0
        replaced, vector = {}, self._vector
        for i in self._token_dependent():
            counted = vector.counted(leaves[i])
            width = counted[0].numel()
            new = inputs[:, at : at + width].reshape(counted.shape).to(counted.dtype)
            partial = vector.part is not None and vector.has_positions(leaves[i])
            replaced[i] = vector.part.put(new, leaves[i]) if partial and vector.part else new
            at += width
        return self._step(x, with_leaves(self._context, replaced), self.iterations)

    def _token_dependent(self) -> list[int]:
        """The context's tensors with a row for every example, by number."""
        leaves = leaves_of(self._context)
        twice = leaves_of(self._encode(self.rows * 2))
        return [
            i
            for i, (one, two) in enumerate(zip(leaves, twice, strict=True))
            if one.is_floating_point()
            and one.ndim > 1
            and len(one) == len(self.rows)
            and len(two) == 2 * len(one)
        ]

    # States and vectors

    def flat(self, state: State, rows: Sequence[int] | None = None) -> Tensor:
        """A state as (row, n)."""
        state = state if rows is None else select_rows(state, list(rows))
        result = self._vector.flat(state).detach()
        return wide(result) if self.double else result

    def state(self, x: Tensor) -> Any:
        """Flat rows as a state that the model's `step` takes."""
        like = self._vector.like
        return self._vector.state(x, map_state(lambda field: self._precise(field[self.rows]), like))

    def _step(self, x: Tensor, context: Context, t: int) -> Tensor:
        # inside, as the kernels of attention are otherwise those of the recording
        with self._as_recorded(), differentiable_attention(x, *leaves_of(context)):
            return self._vector.flat(step_at(self._model, self.state(x), context, t))

    def _leave_out(self, run: Run) -> str:
        """Leave the positions that don't count out of the vector; if they influence others, leave
        them in and return a sentence that says so."""
        mask = mask_at(run, run.states)[self.rows]
        if bool(mask.all()) or not self._vector.with_positions:
            return ""
        whole, x = self._vector, []
        self._vector = StateVector(run, self._model_fields, CountedPart(mask))
        with torch.no_grad():
            start = self.flat(self._vector.like, self.rows)
            for filler in (0.0, float(start.square().mean().sqrt())):
                self._vector.filler = filler
                x.append(self._step(start, self._context, run.states.iterations[0]))
        self._vector.filler = 0.0
        if float((x[1] - x[0]).norm()) <= _LEAK * float(x[0].norm()) + 1e-30:
            return ""
        self._vector = whole
        return (
            " Positions that don't count (padding) influence those that do, so all of them are part of the "
            "map."
        )

    def _initial(self) -> tuple[int, Any]:
        with self._as_recorded(draws=True), torch.no_grad():  # the first state may be a random one
            return first_state(self._model, self._context)

    def _encode(self, rows: Sequence[int]) -> Any:
        tokens, inputs = select_inputs(self._tokens, self._inputs, rows)
        with self._as_recorded(), torch.no_grad():
            return self._model.encode(self._precise(tokens), **self._precise_inputs(inputs))

    def _precise(self, value: Any) -> Any:
        """A tensor in the precision of the computation, or a container of them."""
        if not self.double:
            return value
        if not isinstance(value, Tensor):
            return map_parts(value, self._precise) if is_container(value) else value
        value = value if has_64_bits(value.device) else value.cpu()
        return value.double() if value.is_floating_point() else value

    def _precise_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs in the precision of the computation."""
        return {name: self._precise(value) for name, value in inputs.items()}

    def _use_double_precision(self) -> bool:
        """Copy the model to double precision. False, and no change, where that isn't the same
        map."""
        single = self._model
        tokens, inputs = select_inputs(self._tokens, self._inputs, [0])
        with torch.no_grad():
            context = single.encode(tokens, **inputs)
            first, like = first_state(single, context)
        if all(part.dtype == torch.float64 for part in floats(like)):
            return True
        try:
            model = copy.deepcopy(single)
            if isinstance(model, torch.nn.Module):
                elsewhere = not all(has_64_bits(part.device) for part in floats(like))
                model = (model.cpu() if elsewhere else model).double()
            with torch.no_grad():
                self.double = True
                other = model.encode(self._precise(tokens), **self._precise_inputs(inputs))
                double = map_state(self._precise, like)
                self.double = False
                new = step_at(model, double, other, first)  # a random start would be a different one
                old = step_at(single, like, context, first)
        except (RuntimeError, TypeError, ValueError):
            return False
        for a, b in zip(floats(new), floats(old), strict=True):
            b, dtype = wide(b), b.dtype
            gap, size = float((a - b).norm()), float(b.norm())
            if a.dtype != torch.float64 or not gap <= agreement(dtype) * size + 1e-30:
                return False
        self._model = model
        return True


def agreement(dtype: torch.dtype) -> float:
    """By which part of its norm an iteration in this dtype may differ from one in double precision:
    one in 1,000, or a few roundings where these are more."""
    return max(1e-3, 16 * resolution(dtype))


def _positions(run: Run) -> int | None:
    axes = run.states.axes[1:]
    return run.states.shape[1:][axes.index("position")] if "position" in axes else None
