"""Wiring: which tensors that the loop's body returns are received by its next call.

A tensor is fed back if the next call receives the same object or the same numbers. It is carried,
and so belongs to the loop's state, if a call that receives it also changes it: a mask or a position
bias that is only passed through is no state.
"""

from typing import Any, NamedTuple

from torch import Tensor

from ..core.sites import Path, float_tensors, get_at
from .tensor_match import same_values, version


class Feed(NamedTuple):
    """A tensor that goes from one call of the body to the next."""

    source: Path
    """Where the next call receives it, in (args, kwargs)."""
    target: Path
    """Where a call returns it."""


class _Received(NamedTuple):
    tensor: Tensor
    version: int | None
    copy: Tensor | None
    """Without a version counter: what it held."""


class Wiring:
    """Watches the calls of a loop's body."""

    def __init__(self) -> None:
        self.carried: dict[Feed, bool] = {}
        """By feed, whether a call changes it."""
        self._returned: list[tuple[Path, Tensor]] = []
        self._pending: dict[Feed, _Received] = {}

    def receive(self, inputs: Any) -> None:
        """What a call receives, before it."""
        self._pending = {}
        for source, tensor in float_tensors(inputs):
            target = next((path for path, other in self._returned if other is tensor), None)
            if target is None:
                target = next((path for path, other in self._returned if same_values(other, tensor)), None)
            if target is None or not tensor.ndim:
                continue
            feed = Feed(source, target)
            if not self.carried.get(feed):  # one call that changes it is enough
                count = version(tensor)
                self._pending[feed] = _Received(tensor, count, tensor.clone() if count is None else None)
                self.carried.setdefault(feed, False)

    def give(self, output: Any) -> None:
        """What the call returns, before any edit."""
        for feed, received in self._pending.items():
            self.carried[feed] = _changed(received, _at(output, feed.target))

    def returned(self, output: Any) -> None:
        """What the caller gets, after the edits."""
        self._returned = float_tensors(output)

    @property
    def feeds(self) -> list[Feed]:
        """The tensors that are carried, one for each that is returned, in the order of inputs."""
        found: dict[Path, Feed] = {}
        for feed, changed in self.carried.items():
            if changed:
                found.setdefault(feed.target, feed)
        return list(found.values())

    def target_of(self, source: Path) -> Path | None:
        """Where what a call receives at `source` was returned by the one before; None: nowhere."""
        found = [feed for feed in self.carried if feed.source == source]
        found.sort(key=lambda feed: not self.carried[feed])
        return found[0].target if found else None


def _changed(received: _Received, new: Any) -> bool:
    if not isinstance(new, Tensor):
        return False
    written = (
        version(received.tensor) != received.version
        if received.copy is None
        else not same_values(received.copy, received.tensor)
    )
    return written or not same_values(received.tensor, new)


def _at(value: Any, path: Path) -> Any:
    try:
        return get_at(value, path)
    except (LookupError, AttributeError, TypeError):  # this call returns another form
        return None
