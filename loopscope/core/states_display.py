"""How States are shown, and what other libraries' tables and arrays they become."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.notebook import paragraph, table
from ..common.tidy_table import as_array, pandas, tidy
from .labelled_array import labelled_array
from .lazy_values import LazyValues

if TYPE_CHECKING:
    from .states import States

MOST_NUMBERS = 5_000_000
"""The most numbers that become a table of pandas."""


class StatesDisplay:
    """The methods of States that show or convert them."""

    def to_xarray(self: Any) -> Any:
        """An xarray.DataArray of `.tensor`, with named dimensions and the iterations as
        coordinates. Of a run on disk it is an array of dask, which reads what is computed.

        Raises:
            LoopscopeError: xarray isn't installed (extra: xarray).
        """
        values = self.by_index if isinstance(self.by_index, LazyValues) and self.iterations else self.tensor
        return labelled_array(values, self.axes, self.iterations, self.name, self.inner)

    def to_pandas(self: Any) -> Any:
        """A DataFrame in long format: a column for each axis, and the columns w0, w1 ... of the
        axis `width`, or `value` without it. Only what is present has a row: no iteration that was
        not kept, and no example that has left the loop.

        >>> run.states.at(position=-1).to_pandas()    # iteration, batch, w0, w1, ...

        Raises:
            LoopscopeError: there are more than 5 million numbers, or pandas isn't installed (extra:
                pandas).
        """
        return states_table(self)

    def __repr__(self: Any) -> str:
        if not self.iterations:
            return f"States '{self.name}': nothing kept"
        count, *rest = self.shape
        shape = "(" + ", ".join(map(str, rest)) + ")"
        return (
            f"States {count} × {shape} · {' '.join(self.axes)} · {dtype(self)} · {self.nbytes / 1e6:.1f} MB"
        )

    def _repr_html_(self: Any) -> str:
        if not self.iterations:
            return paragraph("nothing kept", strong=f"States {self.name}")
        rows = [
            (axis, size, iterations_text(self.iterations) if place == 0 else f"0 to {size - 1}")
            for place, (axis, size) in enumerate(zip(self.axes, self.shape, strict=True))
        ]
        left = sum(int((~mask).sum()) for mask in self.rows.values())
        rest = f" · {left} rows of the batch absent, as they have left the loop" if left else ""
        head = paragraph(f"{dtype(self)} · {self.nbytes / 1e6:.1f} MB{rest}", strong=f"States {self.name}")
        return head + table(("axis", "size", "coordinates"), rows)


def dtype(states: "States") -> str:
    """The type of the numbers, such as float32."""
    return str(states.dtype).removeprefix("torch.")


def iterations_text(iterations: list[int]) -> str:
    """Such as "0 to 32", or with gaps "0, 4, 8 ... 32"."""
    first, last = iterations[0], iterations[-1]
    if len(iterations) == last - first + 1:
        return f"{first} to {last}" if last > first else f"{first}"
    few = iterations if len(iterations) <= 6 else [*iterations[:4], "...", last]
    return ", ".join(map(str, few)).replace(", ..., ", " ... ")


def states_table(states: "States") -> Any:
    """The DataFrame of `States.to_pandas`."""
    library, count = pandas(), sum(value.numel() for _, value in states.items())
    if count > MOST_NUMBERS:
        raise LoopscopeError(
            f"a table of pandas holds at most {MOST_NUMBERS:,} numbers here, but '{states.name}' has "
            f"{count:,}. Select first, such as states[-1:] or states.at(position=-1), or take .tensor."
        )
    depth = len(next((index for index, _ in states.items()), ()))
    body, loops = states.axes[depth:], states.axes[:depth]
    tables = []
    for index, value in states.items():
        piece = _with_width_columns(value, body) if body[-1:] == ("width",) else _long(value, body)
        mask = states.rows.get(index)
        if mask is not None and "batch" in body:
            piece = piece[as_array(mask)[piece["batch"]]]
        for place, (axis, k) in enumerate(zip(loops, index, strict=True)):
            piece.insert(place, axis, k)
        tables.append(piece)
    if not tables:
        return library.DataFrame(columns=[*states.axes, "value"])
    return library.concat(tables, ignore_index=True)


def _long(value: Tensor, body: tuple[str, ...]) -> Any:
    return tidy({"value": value}, body)


def _with_width_columns(value: Tensor, body: tuple[str, ...]) -> Any:
    rows = as_array(value).reshape(-1, value.shape[-1])
    shape = value.shape[:-1]
    places = np.indices(shape).reshape(len(shape), math.prod(shape))
    axes = dict(zip(body[:-1], places, strict=True))
    return pandas().DataFrame(axes | {f"w{i}": rows[:, i] for i in range(rows.shape[1])})
