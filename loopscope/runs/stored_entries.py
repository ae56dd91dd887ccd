"""StoredEntries: recorded values that are in a folder."""

from collections.abc import Mapping

from torch import Tensor

from ..common.shard_reader import ShardedTensors
from ..core.lazy_values import LoopPlace
from .entry import Entry
from .site_values import SiteValues


class StoredEntries:
    """Gives the values of entries that are in a folder."""

    def __init__(self, tensors: ShardedTensors) -> None:
        self.tensors = tensors
        self.outside: dict[int, str] = {}
        """The names of tensors that are sites by themselves, by where they are in memory."""

    def value(self, name: str) -> Tensor:
        """The value of a site that has one, outside the loop."""
        tensor = self.tensors[name]
        self.outside[tensor.data_ptr()] = name
        return tensor

    def by_index(self, entries: Mapping[LoopPlace, Entry]) -> SiteValues:
        """The values of a site, read when they are asked for."""
        names = {index: entries[index].stored for index in sorted(entries)}
        return SiteValues({index: name for index, name in names.items() if name is not None}, self.tensors)
