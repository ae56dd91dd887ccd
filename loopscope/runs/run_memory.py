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

from ..core.states import States
from .weight_digests import version_of

if TYPE_CHECKING:
    from .run import Run

T = TypeVar("T")
LARGEST = 1 << 30
"""Bytes of a result, above which it isn't remembered."""

Marks = tuple[tuple[int, int], ...]
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
    return tuple((id(tensor), version_of(tensor)) for tensor in _tensors(value))


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a result; of values that are read from a file only when they are needed
    none."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, States):
        if value.in_memory:
            for _, tensor in value.items():
                yield tensor
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))
    elif hasattr(value, "names") and hasattr(value, "with_sites"):  # a run
        for name in value.names:
            yield from _tensors(value[name])
