"""RunMemory: what was computed from a run, for whoever needs it next.

An analysis continues the loop, solves for its fixed points, differentiates it; the next one asks
for the same. Each run remembers these results under what was asked, as long as the run itself
lives. A result is forgotten where the run's values, or its own, were written into since: what one
analysis does to a tensor never reaches another. Results that are too large are computed again.
"""

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import ref

from torch import Tensor

from ..common.lazy_tensors import LazyTensors
from ..core.lazy_values import LazyValues
from ..core.states import States
from .weight_digests import version_of

if TYPE_CHECKING:
    from .run import Run

T = TypeVar("T")
LARGEST = 1 << 30
"""Bytes of a result, above which it isn't remembered."""

Marks = tuple[tuple[int, Hashable], ...]
"""Of some tensors: which they are, and how often they were written into."""


class _Entry(NamedTuple):
    value: Any
    marks: Marks
    source: Marks
    """Those of the run it was computed from."""


class RunMemory:
    """The results that were computed from one run, by what was asked."""

    def __init__(self, run: "Run") -> None:
        self._run = ref(run)
        self._entries: dict[Hashable, _Entry] = {}

    @property
    def questions(self) -> list[tuple[Any, ...]]:
        """What is remembered, of several parts."""
        return [question for question in self._entries if isinstance(question, tuple)]

    def once(self, question: Hashable, compute: Callable[[], T]) -> T:
        """The result of `compute`, which is called where it isn't remembered."""
        value = self.recall(question)
        if value is None:
            value = compute()
            self.keep(question, value)
        return value

    def recall(self, question: Hashable) -> Any:
        """What is remembered under this question; None if nothing is."""
        entry = self._entries.get(question)
        if entry is None:
            return None
        if entry.source == self._source() and entry.marks == _marks(entry.value):
            return entry.value
        self._entries.pop(question, None)
        return None

    def keep(self, question: Hashable, value: Any) -> None:
        """Remember a result, unless it is larger than LARGEST."""
        if sum(tensor.nbytes for tensor in _tensors(value)) <= LARGEST:
            self._entries[question] = _Entry(value, _marks(value), self._source())

    def _source(self) -> Marks:
        run = self._run()
        if run is None:
            return ()
        return _marks([run.tokens, run.inputs, *(run[name] for name in run.names)])


def _marks(value: Any) -> Marks:
    return tuple(
        (id(part), part.written() if isinstance(part, LazyTensors) else version_of(part))
        for part in _parts(value)
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of a result that are in memory."""
    return (part for part in _parts(value, lazy=False) if isinstance(part, Tensor))


def _parts(value: Any, lazy: bool = True) -> Iterator[Tensor | LazyTensors]:
    """The tensors in a result.

    Arguments:
        lazy: with those that values are read from when they are needed.
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, States):
        values = value.by_index
        if not isinstance(values, LazyValues):
            yield from values.values()
        elif lazy:
            yield from {id(part): part for part in values.sources()}.values()
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _parts(part, lazy)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _parts(part, lazy)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _parts(getattr(value, field.name), lazy)
    elif hasattr(value, "names") and hasattr(value, "with_sites"):  # a run
        for name in value.names:
            yield from _parts(value[name], lazy)
