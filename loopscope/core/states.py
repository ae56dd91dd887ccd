"""States: one site's values, with an iteration axis."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..common.arguments import whole_number
from ..common.errors import LoopscopeError, LoopscopeIndexError, nearest
from ..common.to_json import to_json
from .indexing import canonical_selectors, index_grid, iteration_selector, rest_of_index, select
from .lazy_values import chosen, form_at, identity_at
from .selected_values import selected
from .states_display import StatesDisplay


class States(StatesDisplay):
    """One site's values over the iterations of a run. `states[k]` is the state after k iterations,
    `states[0]` before the loop.

    >>> run.states
    States 33 × (64, 17, 64) · iteration batch position width · float32 · 9.2 MB
    >>> run.states[3].shape          # an int drops the iteration axis
    torch.Size([64, 17, 64])
    >>> run.states[-8:].iterations   # a slice keeps it
    [25, 26, 27, 28, 29, 30, 31, 32]

    A site inside the loop body has values for iterations t = 0..n-1; inner loops have axes of their
    own after `iteration`. A value that was skipped, not kept or never computed is absent: indexing
    it raises LoopscopeIndexError, `.tensor` leaves it out, and `.iterations` lists the present
    ones.
    """

    def __init__(
        self,
        name: str,
        values: Mapping[tuple[int, ...], Tensor],
        axes: tuple[str, ...],
        length: int | range,
        *,
        rows: Mapping[tuple[int, ...], Tensor] | None = None,
        without_grad: Collection[tuple[int, ...]] = (),
        reasons: Mapping[int, str] | None = None,
    ) -> None:
        """
        Arguments:
            values: by loop index (iteration, inner loops ...). A mapping that is no dict must be in
                their order; it is kept, and gives each value when it is read.
            axes: names of all axes, those of the loop index first.
            length: iterations that can be addressed, 0..length-1 (or a range of them), whether
                present or not.
            rows: masks (batch,) by loop index, of the values from which some rows have left; these
                rows are NaN.
            without_grad: loop indices of values that the model computed under no_grad, in a run
                recorded with grad=True.
            reasons: by iteration, why its value is absent, as a clause.
        """
        self.name, self.axes = name, axes
        self.rows = dict(rows or {})
        """Masks (batch,) by loop index, of the values from which some rows of the batch have
        left."""
        self.without_grad = tuple(sorted(without_grad))
        self.reasons = dict(reasons or {})
        self._values = dict(sorted(values.items())) if isinstance(values, dict) else values
        self.iteration_range = range(length) if isinstance(length, int) else length
        """The iterations that can be addressed, whether present or not."""
        self._depth = len(next(iter(self._values))) if self._values else 1

    @property
    def in_memory(self) -> bool:
        """Whether the values are held as tensors, rather than read when they are needed."""
        return isinstance(self._values, dict)

    # What is present

    @property
    def iterations(self) -> list[int]:
        """The iterations that are present, in order: the coordinates of `.tensor`'s first axis."""
        present = {index[0] for index in self._values}
        return [label for label in self.iteration_range if label in present]

    @property
    def present(self) -> Tensor:
        """Which rows of the batch are present, bool (iteration, inner loops ..., batch): False for
        a row that has left the loop, whose values are NaN."""
        batch = self.shape[self.axes.index("batch")]
        every = torch.ones(batch, dtype=torch.bool)
        absent = torch.zeros_like(every)

        def rows(index: tuple[int, ...]) -> Tensor:
            return self.rows.get(index, every) if index in self._values else absent

        grid = index_grid(self.inner) if self.inner else [()]
        result = [torch.stack([rows((k, *inner)) for inner in grid]) for k in self.iterations]
        return torch.stack(result).reshape(len(self.iterations), *self.inner, batch)

    @property
    def inner(self) -> tuple[int, ...]:
        """Lengths of the inner loop axes; empty without inner loops."""
        return tuple(1 + max(index[d] for index in self._values) for d in range(1, self._depth))

    @property
    def tensor(self) -> Tensor:
        """All present values in one tensor (iteration, inner loops ..., batch, ...), on the device
        of the first; an absent turn of an inner loop is NaN.

        Raises:
            LoopscopeError: nothing is present, or the values differ in shape.
        """
        if not self.iterations:
            raise LoopscopeError(
                f"'{self.name}' has no iteration left to stack. Record or keep at least one."
            )
        shapes = sorted({tuple(form_at(self._values, index).shape) for index in self._values})
        if len(shapes) > 1:
            raise LoopscopeError(
                f"'{self.name}' must have one shape at every iteration to be stacked, but had {shapes}. "
                "Take its values one by one, or keep a reduction that is of one shape: "
                "keep=ls.keep.reduce(...)."
            )
        return _stacked([self._at(label) for label in self.iterations])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `.tensor`."""
        one = form_at(self._values, next(iter(self._values))).shape if self._values else ()
        return (len(self.iterations), *self.inner, *one)

    @property
    def dtype(self) -> torch.dtype | None:
        """The type of the first value's numbers; None if nothing is present."""
        return form_at(self._values, next(iter(self._values))).dtype if self._values else None

    @property
    def nbytes(self) -> int:
        """Bytes of the distinct values."""
        distinct = {identity_at(self._values, k): form_at(self._values, k).nbytes for k in self._values}
        return sum(distinct.values())

    @property
    def by_index(self) -> Mapping[tuple[int, ...], Tensor]:
        """Every present value by its loop index (iteration, inner loops ...); of a run on disk each
        is read when it is asked for (`core.lazy_values`)."""
        return self._values

    def items(self) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """Every present value with its loop index (iteration, inner loops ...)."""
        return iter(self._values.items())

    def get(self, index: tuple[int, ...]) -> Tensor | None:
        """The value at a full loop index (iteration, inner loops ...); None if it is absent."""
        return self._values.get(index)

    # Indexing

    def __getitem__(self, index: Any) -> Any:
        """`[k]` gives a Tensor, `[a:b]` a States; in `[k, ...]` the rest indexes the tensor (inner
        loops, batch, ...).

        Raises:
            LoopscopeIndexError: there is no iteration k, or it is absent.
        """
        if isinstance(index, tuple) and index:
            first, *rest = index
            selected = self[first]
            if isinstance(selected, States):
                return rest_of_index(selected.tensor, (slice(None), *rest), self.name) if rest else selected
            return rest_of_index(selected, tuple(rest), self.name)
        index = iteration_selector(index, self.name)
        if isinstance(index, slice):
            labels = self.iteration_range[index]
            values = chosen(self._values, lambda key: key[0] in labels)
            return self.with_values(values, iteration_range=labels)
        return self._at(self.iteration_at(index))

    def iteration_at(self, index: int) -> int:
        """The iteration that an index stands for; negative ones count from the end.

        Raises:
            LoopscopeIndexError: there is no such iteration.
        """
        try:
            return self.iteration_range[whole_number(index)]
        except ValueError:
            raise LoopscopeError(
                f"'{self.name}' is indexed by an iteration, a whole number, but got {index!r}."
            ) from None
        except IndexError:
            last = self.iteration_range[-1] if len(self.iteration_range) else None
            first = self.iteration_range[0] if len(self.iteration_range) else None
            raise LoopscopeIndexError(
                f"'{self.name}' at iteration {index} was requested, but this run has {first}..{last}. "
                "Record more: record(model, tokens, iterations=...)."
            ) from None

    def __len__(self) -> int:
        return len(self.iteration_range)

    def __iter__(self) -> Iterator[Tensor]:
        return (self._at(label) for label in self.iterations)

    def at(self, **where: Any) -> "States":
        """Select along named axes: an int drops the axis; a slice, a list or a mask keeps it.

        >>> run.states.at(position=-1).axes
        ('iteration', 'batch', 'width')

        Raises:
            LoopscopeError: there is no axis of this name, or no such index along it.
        """
        body = self.axes[self._depth :]
        for name in where:
            if name not in body:
                raise LoopscopeError(f"'{self.name}' has no axis {name!r}. {nearest(name, body)}")
        where = canonical_selectors(where, self.name)
        selection = tuple(where.get(name, slice(None)) for name in body)
        values = selected(self._values, selection, self.name, body)
        remaining = tuple(name for name in body if not isinstance(where.get(name), int))
        return self.with_values(values, axes=self.axes[: self._depth] + remaining, batch=where.get("batch"))

    def differences(self) -> "States":
        """The change in each iteration: entry t is states[t+1] - states[t]; one iteration fewer.

        Raises:
            LoopscopeError: no two iterations next to each other are present.
        """
        values = {
            index: self._values[(index[0] + 1, *index[1:])] - value
            for index, value in self._values.items()
            if (index[0] + 1, *index[1:]) in self._values
        }
        if not values:
            raise LoopscopeError(
                f"differences need two iterations next to each other, but '{self.name}' kept "
                f"{self.iterations}. Record without keep=every(...)."
            )
        return States(
            self.name, values, self.axes, range(self.iteration_range.start, self.iteration_range.stop - 1)
        )

    def with_values(
        self,
        values: Mapping[tuple[int, ...], Tensor],
        *,
        axes: tuple[str, ...] | None = None,
        iteration_range: range | None = None,
        batch: Any = None,
    ) -> "States":
        """The same site with other values.

        Arguments:
            values: by loop index.
            axes: names of all their axes; None: as before.
            iteration_range: the iterations that can be addressed; None: as before.
            batch: the rows of the batch that they have, where these are some of the former ones.
        """
        axes = self.axes if axes is None else axes
        rows = {index: rows for index, rows in self.rows.items() if index in values}
        if batch is not None:
            rows = (
                {index: select(mask, (batch,), "rows") for index, mask in rows.items()}
                if "batch" in axes
                else {}
            )
        without = [index for index in self.without_grad if index in values]
        length = self.iteration_range if iteration_range is None else iteration_range
        kept = {"rows": rows, "without_grad": without, "reasons": self.reasons}
        return States(self.name, values, axes, length, **kept)

    def _at(self, label: int) -> Tensor:
        if self._depth == 1:
            if (label,) not in self._values:
                raise self._absent(label)
            return self._values[(label,)]
        present = {index[1:]: self._values[index] for index in self._values if index[0] == label}
        if not present:
            raise self._absent(label)
        like = next(iter(present.values()))
        filler = torch.full_like(like, float("nan")) if like.is_floating_point() else torch.zeros_like(like)
        grid = [present.get(index, filler) for index in index_grid(self.inner)]
        return _stacked(grid).unflatten(0, self.inner)

    def _absent(self, label: int) -> LoopscopeIndexError:
        kept = self.iterations
        listed = ", ".join(map(str, kept[:6])) + (" ..." if len(kept) > 6 else "")
        why = self.reasons.get(label, "it was skipped, not kept, or isn't known")
        advice = "" if label in self.reasons else " Record it without keep= or with another one."
        return LoopscopeIndexError(
            f"'{self.name}' has no value at iteration {label}: {why}. Present: {listed or 'none'}.{advice}"
        )


def _stacked(values: list[Tensor]) -> Tensor:
    """The values in one tensor, on the device of the first: a loop may go over several."""
    device = values[0].device
    return torch.stack([value.to(device) for value in values])


@to_json.register
def _(value: States) -> Any:
    return {"iterations": value.iterations, "axes": value.axes, "values": to_json(value.tensor)}
