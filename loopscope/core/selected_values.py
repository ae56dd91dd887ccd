"""SelectedValues: a selection along the axes of values that are read when they are asked for."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from torch import Tensor

from ..common.lazy_tensors import LazyTensors
from .indexing import select
from .lazy_values import LazyValues, LoopPlace


class SelectedValues(LazyValues):
    """The same part of each value, read when it is asked for."""

    def __init__(
        self, values: LazyValues, selection: tuple[Any, ...], name: str, axes: tuple[str, ...]
    ) -> None:
        """
        Arguments:
            selection: a selector for each axis of a value.
            name: of the site, for errors.
            axes: names of the axes, for errors.
        """
        self._values, self._selection, self._name, self._axes = values, selection, name, axes
        for index in values:
            self.form(index)  # whether there is such a part

    def _part(self, value: Tensor, selection: tuple[Any, ...]) -> Tensor:
        return select(value, selection, f"'{self._name}'", self._axes)

    def __getitem__(self, index: LoopPlace) -> Tensor:
        rows = self._selection[0] if self._selection else None
        if isinstance(rows, slice) and rows.step in (None, 1):
            return self._part(self._values.rows(index, rows), (slice(None), *self._selection[1:]))
        return self._part(self._values[index], self._selection)

    def form(self, index: LoopPlace) -> Tensor:
        return self._part(self._values.form(index), self._selection)

    def identity(self, index: LoopPlace) -> Hashable:
        return self._values.identity(index), str(self._selection)

    def sources(self) -> Iterator[Tensor | LazyTensors]:
        return self._values.sources()

    def __contains__(self, index: object) -> bool:
        return index in self._values

    def __iter__(self) -> Iterator[LoopPlace]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def selected(
    values: Mapping[LoopPlace, Tensor], selection: tuple[Any, ...], name: str, axes: tuple[str, ...]
) -> Mapping[LoopPlace, Tensor]:
    """The same part of each value; read when it is asked for if the values are. One axis after the
    other, so that two lists select a grid, not pairs. The arguments are those of
    `SelectedValues`."""
    if isinstance(values, LazyValues):
        return SelectedValues(values, selection, name, axes)
    return {index: select(value, selection, f"'{name}'", axes) for index, value in values.items()}
