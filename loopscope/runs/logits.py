"""Logits: the read-out of a run after any of its iterations."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..core.indexing import iteration_selector, rest_of_index
from ..core.states import States

if TYPE_CHECKING:
    from .run import Run


class Logits:
    """The logits of a run after each iteration, computed when they are indexed.

    `[k]` is a Tensor (batch, position, vocab), `[a:b]` a States with the iteration axis.
    """

    def __init__(self, run: "Run") -> None:
        self._run = run

    def __getitem__(self, index: Any) -> Any:
        labels = range(self._run.iterations + 1)
        if isinstance(index, tuple) and index:
            first, *rest = index
            selected = self[first]
            if isinstance(selected, States):
                return rest_of_index(selected.tensor, (slice(None), *rest), "logits")
            return rest_of_index(selected, tuple(rest), "logits")
        index = iteration_selector(index, "logits")
        if isinstance(index, slice):
            present = set(self._run.states.iterations)
            values = {(k,): self[k] for k in labels[index] if k in present}
            return States("logits", values, ("iteration", "batch", "position", "vocab"), labels[index])
        k = self._run.states.iteration_at(index)
        early = self._run.origin.get("answers_early", False)
        last = k == self._run.iterations and isinstance(self._run.output, Tensor) and not early
        if last and (not self._run.has_model or self._run.reader.output_is_logits):
            return self._run.output
        return self._run.reader.logits(self._run.state(k))

    @property
    def tensor(self) -> Tensor:
        """(iteration, batch, position, vocab), of the states that were kept."""
        return self[:].tensor

    def __len__(self) -> int:
        return self._run.iterations + 1

    def __iter__(self) -> Iterator[Tensor]:
        return (self[k] for k in range(len(self)))

    def __repr__(self) -> str:
        return f"Logits of {self._run!r}: [k] reads out states[k], k = 0..{self._run.iterations}"
