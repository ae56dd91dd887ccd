"""The tensors of a file that is being written, each of them once, and values made of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.lazy_values import LoopPlace
from ..core.states import States
from .run_header import format_index
from .stored_values import Unwritable, pack


class DistinctTensors:
    """The tensors of a file, each of them once."""

    def __init__(self) -> None:
        self.by_name: dict[str, Tensor] = {}
        self.prefix = ""
        """Before the names of those that come, so that several runs may be in one file."""
        self._names: dict[tuple[Any, ...], str] = {}

    def keep(self, name: str, tensor: Tensor) -> str:
        """The name of the tensor in the file: `name`, or that under which it is there already."""
        name = self.prefix + name
        if tensor.layout == torch.strided and tensor.numel() and tensor.device.type != "meta":
            identity = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)
            name = self._names.setdefault((*identity, tensor.is_conj(), tensor.is_neg()), name)
        self.by_name[name] = self.by_name.get(name, tensor)
        return name

    def keep_site(self, name: str, site: States) -> dict[LoopPlace, str]:
        """The names of a site's values in the file, by loop index, each beginning with `name`."""
        return {index: self.keep(f"{name}{format_index(index)}", value) for index, value in site.items()}

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """A block after whose failure the tensors are those from before it."""
        by_name, names = dict(self.by_name), dict(self._names)
        try:
            yield
        except Unwritable:
            self.by_name.clear()  # the dictionaries themselves stay: a caller may hold them
            self.by_name.update(by_name)
            self._names = names
            raise


def packed(tensors: DistinctTensors, what: str, value: Any, optional: bool = False) -> Any:
    """A value as JSON, with its tensors kept in `tensors`.

    Arguments:
        what: of the run it is, such as "tokens" or "input 'mask'".
        optional: whether it is left out, as None, if it can't be written.

    Raises:
        LoopscopeError: it can't be written.
    """

    def keep(tensor: Tensor) -> str:
        name = what if what in ("tokens", "output") and tensor is value else f"value/{len(tensors.by_name)}"
        return tensors.keep(name, tensor)

    try:
        with tensors.all_or_none():
            return pack(value, keep)
    except Unwritable as error:
        if optional:
            return None
        name = what.removeprefix("input ")
        place = "run.tokens" if name == what else f"run.inputs[{name}]"
        raise LoopscopeError(
            f"a run's {what} must be made of tensors, arrays, numbers, words, and lists or dicts of them to "
            f"be saved, but holds one of type {error}. Set {place} to what can be saved, or to None, and "
            "save again: the recorded values are kept; only what the loaded run computes anew needs it."
        ) from error
