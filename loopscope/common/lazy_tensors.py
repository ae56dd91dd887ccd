"""LazyTensors: tensors by name that are read, and checked, when they are asked for."""

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from pathlib import Path

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
    def written(self) -> Hashable:
        """The same as before unless a tensor that was read has been written into since."""

    @property
    @abstractmethod
    def place(self) -> Path:
        """The file, or the folder, that they are read from."""

    @abstractmethod
    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that name, without reading it."""
