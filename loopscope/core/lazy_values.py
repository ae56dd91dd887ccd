"""LazyValues: values by loop index that are read when they are asked for, from a file or from
others."""

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

from torch import Tensor

from ..common.lazy_tensors import LazyTensors

LoopPlace = tuple[int, ...]
"""A loop index: iteration, inner loops ..."""


class LazyValues(Mapping[LoopPlace, Tensor]):
    """A site's tensors by loop index, in their order. Each is read when it is asked for, and its
    form is known without that."""

    @abstractmethod
    def form(self, index: LoopPlace) -> Tensor:
        """A tensor of the same shape and dtype on the device "meta", without reading the value."""

    @abstractmethod
    def identity(self, index: LoopPlace) -> Hashable:
        """The same for two values if they are the same bytes in a file."""

    @abstractmethod
    def sources(self) -> Iterator[Tensor | LazyTensors]:
        """What the values are read from: tensors of files, and single ones in memory."""

    def rows(self, index: LoopPlace, rows: slice) -> Tensor:
        """A part of a value along its first axis; only this is read where values are in parts."""
        return self[index][rows]


class ChosenValues(LazyValues):
    """Some of the values, or those of several mappings one after the other; none of them is read
    before it is asked for."""

    def __init__(self, sources: Mapping[LoopPlace, Mapping[LoopPlace, Tensor]]) -> None:
        """`sources`: the mapping that has the value, by loop index, in their order."""
        self._sources = dict(sources)

    def __getitem__(self, index: LoopPlace) -> Tensor:
        return self._sources[index][index]

    def form(self, index: LoopPlace) -> Tensor:
        return form_at(self._sources[index], index)

    def identity(self, index: LoopPlace) -> Hashable:
        return identity_at(self._sources[index], index)

    def rows(self, index: LoopPlace, rows: slice) -> Tensor:
        source = self._sources[index]
        return source.rows(index, rows) if isinstance(source, LazyValues) else source[index][rows]

    def sources(self) -> Iterator[Tensor | LazyTensors]:
        distinct = {id(source): source for source in self._sources.values()}
        for source in distinct.values():
            yield from source.sources() if isinstance(source, LazyValues) else source.values()

    def source(self, index: LoopPlace) -> Mapping[LoopPlace, Tensor]:
        """The mapping that has a value."""
        source = self._sources[index]
        return source.source(index) if isinstance(source, ChosenValues) else source

    def __contains__(self, index: object) -> bool:
        return index in self._sources  # without reading it

    def __iter__(self) -> Iterator[LoopPlace]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def chosen(
    values: Mapping[LoopPlace, Tensor], holds: Callable[[LoopPlace], bool]
) -> Mapping[LoopPlace, Tensor]:
    """The values at the loop indices for which `holds` is true, read when they are asked for if the
    mapping reads them so."""
    indices = [index for index in values if holds(index)]
    if isinstance(values, LazyValues):
        return ChosenValues(dict.fromkeys(indices, values))
    return {index: values[index] for index in indices}


def joined(parts: Iterable[Mapping[LoopPlace, Tensor]]) -> Mapping[LoopPlace, Tensor]:
    """The values of several mappings; at an index that several have, those of the last. They are
    read when they are asked for if one of the mappings reads them so."""
    parts = list(parts)
    sources: dict[LoopPlace, Mapping[LoopPlace, Tensor]] = {}
    for part in parts:
        sources |= dict.fromkeys(part, part)
    ordered = {index: sources[index] for index in sorted(sources)}
    if any(isinstance(part, LazyValues) for part in parts):
        return ChosenValues(ordered)
    return {index: part[index] for index, part in ordered.items()}


def form_at(values: Mapping[LoopPlace, Tensor], index: LoopPlace) -> Tensor:
    """A tensor of a value's shape and dtype: the value itself, if it is in memory."""
    return values.form(index) if isinstance(values, LazyValues) else values[index]


def identity_at(values: Mapping[LoopPlace, Tensor], index: LoopPlace) -> Hashable:
    """The same for two values if they are the same bytes in memory or in a file."""
    if isinstance(values, LazyValues):
        return values.identity(index)
    return values[index].data_ptr(), values[index].shape
