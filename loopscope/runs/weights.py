"""Weights: what the parameters and buffers of a model were in a recording, and whether they still
are.

A parameter must stay as it was. Of buffers there are three kinds:
- Most stay as they are, and are checked like parameters.
- The model's own forward changes some: the statistics of a batch norm in training, counters,
  caches. A recording shows which, and keeps their values at its end. What is computed from the run
  uses those, and leaves the model's present ones alone.
- Buffers that are no part of a model's state (`persistent=False`) hold what was derived, such as a
  table of rotary angles. A model may replace them by longer ones. What is computed from the run
  uses those of its recording.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..core.offloaded import is_offloaded
from ..core.turns import modules_within
from .weight_digests import sampled_digests, version_of

LARGEST = 1 << 28
"""Bytes of changing buffers that a run keeps; where they are more, it uses those of the model."""


_standing_in: set[int] = set()
"""The ids of the copies that are buffers of a model while something is computed from a run."""


class Slot(NamedTuple):
    """Where a module has a parameter or a buffer."""

    module: nn.Module
    key: str
    buffer: bool

    @property
    def tensor(self) -> Tensor | None:
        """What is there now."""
        tensors = self.module._buffers if self.buffer else self.module._parameters
        return tensors.get(self.key)

    @property
    def derived(self) -> bool:
        """Whether it is a buffer that is no part of the model's state."""
        return self.buffer and self.key in self.module._non_persistent_buffers_set

    @property
    def loaded(self) -> bool:
        """Whether accelerate loads it for each call, so that it is another tensor each time."""
        return is_offloaded(self.module, buffers=self.buffer)


@dataclass(frozen=True, eq=False)
class Mark:
    """What a tensor was at a moment."""

    tensor: "ref[Tensor]"
    address: int
    version: int
    form: tuple[Any, ...]
    sample: int
    loaded: bool
    """Whether accelerate loads it for each call."""

    def fits(self, tensor: Tensor | None, sample: int) -> bool:
        """Whether a tensor is the same, and unchanged. Of one that is loaded for each call only the
        shape and the dtype are compared."""
        kept = 2 if self.loaded else None
        if tensor is None or self.form[:kept] != _form(tensor)[:kept]:
            return False
        if self.loaded or tensor.is_meta:
            return True
        unchanged = (self.address, self.version) == (_address(tensor), version_of(tensor))
        return self.tensor() is tensor and unchanged and self.sample == sample


Marks = Mapping[Slot, Mark]


def buffer_marks(model: Any) -> Marks:
    """The buffers of a model before a pass, which shows later whether the pass changes them."""
    return _marks([slot for module in modules_within(model) for slot in _buffers_in(module)])


class Weights:
    """The parameters and buffers of a model at the end of a recording."""

    def __init__(self, model: Any, before: Marks | None = None) -> None:
        """`before`: the buffers before the pass, from `buffer_marks`."""
        self._within = modules_within(model)
        self._structure = [(module, _structure(module)) for module in self._within]
        self._model = model
        self._marks = dict(_marks(_slots(model)))
        changing = [
            slot
            for slot, mark in self._marks.items()
            if slot.buffer
            and (
                id(slot.tensor) in _standing_in
                or (before is not None and slot in before and not before[slot].fits(slot.tensor, mark.sample))
            )
        ]
        held = {slot: tensor for slot in self._marks if slot.buffer and (tensor := slot.tensor) is not None}
        self._derived = {slot: held[slot] for slot in held if slot.derived and slot not in changing}
        self._changing: dict[Slot, Tensor] = {}
        if sum(held[slot].nbytes for slot in changing) <= LARGEST:
            copies = {
                id(held[slot]): held[slot].detach().clone() for slot in changing
            }  # one may be in two places
            self._changing = {slot: copies[id(held[slot])] for slot in changing}
        for slot in changing:
            del self._marks[slot]
        self._ignored = set(changing)
        self._watched = [(slot, mark, self._derived.get(slot)) for slot, mark in self._marks.items()]

    def change(self) -> str | None:
        """What has changed since, in words; None if nothing has."""
        for module, structure in self._structure:
            now = _structure(module)
            if now[0] != structure[0]:
                return f"the parts of {self._name(module)} are others"
            if now != structure:
                for slot in _slots_in(module):
                    if slot not in self._marks and slot not in self._ignored and not slot.derived:
                        return f"{self._label(slot)} is new"
        tensors = []
        for slot, _, derived in self._watched:
            tensor = slot.tensor if derived is None else derived
            if tensor is None:
                return f"{self._label(slot)} is missing"
            tensors.append(tensor)
        samples = sampled_digests(tensors)
        for (slot, mark, _), tensor, sample in zip(self._watched, tensors, samples, strict=True):
            if not mark.fits(tensor, sample):
                return f"{self._label(slot)} has changed"
        return None

    @contextmanager
    def restored(self) -> Iterator[None]:
        """A block with the changing and the derived buffers of the recording; the model's present
        ones are put back after it, and nothing that the block does reaches them."""
        kept = self._derived | self._changing
        moved = {slot.module for slot in self._changing}
        moved |= {slot.module for slot, tensor in self._derived.items() if slot.tensor is not tensor}
        moved |= {
            module
            for module in self._within
            if module._non_persistent_buffers_set
            and any(slot.derived and slot not in kept for slot in _buffers_in(module))
        }
        if not moved:
            yield
            return
        present = {module: dict(module._buffers) for module in moved}
        copies: dict[int, Tensor] = {}
        try:
            for module in moved:
                for slot in _buffers_in(module):
                    if slot.derived and slot not in kept and slot not in self._ignored:
                        del module._buffers[slot.key]
            for slot, tensor in kept.items():
                if slot.module in moved:
                    if slot in self._changing:
                        tensor = copies.setdefault(id(tensor), tensor.clone())
                    slot.module._buffers[slot.key] = tensor
            _standing_in.update(map(id, copies.values()))
            yield
        finally:
            _standing_in.difference_update(map(id, copies.values()))
            for module, buffers in present.items():
                module._buffers.clear()
                module._buffers.update(buffers)

    def _name(self, module: nn.Module) -> str:
        name = self._path(module)
        return f"'{name}'" if name else "the model"

    def _path(self, module: nn.Module) -> str | None:
        """The module's name in the model; None if it is no part of it now."""
        return next((name for name, part in _named(self._model) if part is module), None)

    def _label(self, slot: Slot) -> str:
        prefix = self._path(slot.module)
        return f"'{prefix}.{slot.key}'" if prefix else f"'{slot.key}'"


def _slots(model: Any) -> list[Slot]:
    return [slot for module in modules_within(model) for slot in _slots_in(module)]


def _slots_in(module: nn.Module) -> list[Slot]:
    parameters = [
        Slot(module, key, False) for key, value in module._parameters.items() if _has_numbers(value)
    ]
    return [*parameters, *_buffers_in(module)]


def _buffers_in(module: nn.Module) -> list[Slot]:
    return [Slot(module, key, True) for key, value in module._buffers.items() if _has_numbers(value)]


def _has_numbers(tensor: Tensor | None) -> bool:
    return tensor is not None and not is_lazy(tensor)


def _marks(slots: list[Slot]) -> Marks:
    tensors = {slot: tensor for slot in slots if (tensor := slot.tensor) is not None}
    samples = sampled_digests(list(tensors.values()))
    return {
        slot: Mark(ref(tensor), _address(tensor), version_of(tensor), _form(tensor), sample, slot.loaded)
        for (slot, tensor), sample in zip(tensors.items(), samples, strict=True)
    }


def _address(tensor: Tensor) -> int:
    try:
        return tensor.data_ptr()
    except RuntimeError:  # sparse, or of another package's type
        return 0


def _form(tensor: Tensor) -> tuple[Any, ...]:
    strides = tensor.stride() if tensor.layout == torch.strided else ()
    return tensor.shape, tensor.dtype, tensor.device, strides


def _structure(module: nn.Module) -> tuple[tuple[int, ...], list[str], list[str]]:
    """A module's parts, by their ids, and the names of its parameters and buffers."""
    parameters = [key for key, value in module._parameters.items() if value is not None]
    buffers = [key for key, value in module._buffers.items() if value is not None]
    return tuple(map(id, module._modules.values())), parameters, buffers


def _named(model: Any) -> list[tuple[str, nn.Module]]:
    return list(model.named_modules()) if isinstance(model, nn.Module) else []
