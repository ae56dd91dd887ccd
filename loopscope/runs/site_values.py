"""SiteValues: the values of a site that are in a file."""

from collections.abc import Hashable, Iterator, Mapping

import torch
from torch import Tensor

from ..common.lazy_tensors import LazyTensors
from ..core.lazy_values import LazyValues, LoopPlace


class SiteValues(LazyValues):
    """A site's tensors by loop index, each of them read, and checked, when it is asked for."""

    def __init__(self, names: Mapping[LoopPlace, str], tensors: LazyTensors) -> None:
        """`names`: of the tensors in the file, by loop index, in their order."""
        self.names, self.tensors = dict(names), tensors

    def __getitem__(self, index: LoopPlace) -> Tensor:
        return self.tensors[self.names[index]]

    def form(self, index: LoopPlace) -> Tensor:
        name = self.names[index]
        return torch.empty(self.tensors.shape(name), dtype=self.tensors.dtype(name), device="meta")

    def identity(self, index: LoopPlace) -> Hashable:
        return id(self.tensors), self.names[index]

    def sources(self) -> Iterator[Tensor | LazyTensors]:
        yield self.tensors

    def __contains__(self, index: object) -> bool:
        return index in self.names  # without reading it

    def __iter__(self) -> Iterator[LoopPlace]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)
