"""LazyTensors: tensors by name that are read, and checked, when they are asked for."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor


class LazyTensors(Mapping[str, Tensor]):
    """The tensors of a file or a folder, by name. Their forms are known without reading them."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without reading it."""

    @abstractmethod
    def dtype(self, name: str) -> torch.dtype:
        """The type of a tensor's numbers, without reading it."""

    @abstractmethod
    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that name, without reading it."""
