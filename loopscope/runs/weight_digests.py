"""Digests of weights: a sampled one, cheap enough for every read-out, and one of every byte.

A write through `.data` or through NumPy moves no version counter, so only the numbers themselves
show it. Up to SAMPLE bytes of a tensor are read: all of a small one, and of a large one BLOCKS
pieces at equal distances, its beginning and its end among them. A write between the pieces shows in
the full digest alone.
"""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..core.same_bytes import same_bytes
from ..core.sites import modules_of
from ..core.turns import modules_within

SAMPLE, BLOCKS = 1 << 15, 32
"""Bytes of a tensor that are read, and the number of pieces that they are in."""
CACHED = 1 << 24
"""Bytes of weights up to which a copy is kept, to see whether a run's digest is still theirs."""

_FAILURES = (RuntimeError, NotImplementedError, TypeError, ValueError)
"""What tensors raise whose numbers can't be read: on the meta device, of another package's type."""


class _Computed(NamedTuple):
    key: Any
    copies: list[Tensor]
    digest: str | None


_computed: "WeakKeyDictionary[nn.Module, _Computed]" = WeakKeyDictionary()


def sampled_digests(tensors: Sequence[Tensor]) -> list[int]:
    """A checksum of each tensor's sample; 0 where its numbers can't be read. Samples on an
    accelerator are copied together."""
    result = [0] * len(tensors)
    remote: dict[torch.device, list[tuple[int, Tensor]]] = {}
    for number, tensor in enumerate(tensors):
        try:
            sample = _sample(tensor)
            if sample.device.type == "cpu":
                result[number] = zlib.crc32(sample.numpy().data)
            elif sample.device.type != "meta":
                remote.setdefault(sample.device, []).append((number, sample))
        except _FAILURES:
            continue
    for samples in remote.values():
        sizes = [len(sample) for _, sample in samples]
        copied = torch.cat([sample for _, sample in samples]).cpu().split(sizes)
        for (number, _), sample in zip(samples, copied, strict=True):
            result[number] = zlib.crc32(sample.numpy().data)
    return result


def _sample(tensor: Tensor) -> Tensor:
    """A part of a tensor's bytes, in one row."""
    flat = tensor.detach()
    if not flat.is_contiguous():  # the memory that it lies in, so that nothing large is copied
        size = flat.untyped_storage().nbytes() // flat.element_size()
        flat = torch.as_strided(flat, (size,), (1,), 0)
    data = flat.reshape(-1).view(torch.uint8)
    if len(data) <= SAMPLE:
        return data
    width = SAMPLE // BLOCKS
    step = (len(data) - width) // (BLOCKS - 1)
    pieces = torch.as_strided(data, (BLOCKS, width), (step, 1), data.storage_offset()).reshape(-1)
    pieces[-width:] = data[-width:]
    return pieces


def weights_digest(model: Any) -> str | None:
    """A hash of all weights: the first 16 hexadecimal digits of SHA-256. None for a model without
    weights, or whose weights can't be read here."""
    if not isinstance(model, nn.Module):
        return None
    digest = hashlib.sha256()
    try:
        for name, value in sorted(model.state_dict().items()):
            for tensor in _tensors_of(value):
                values = tensor.detach().cpu().contiguous().reshape(-1)
                digest.update(name.encode())
                digest.update(values.view(torch.uint8).numpy().data)
    except _FAILURES:
        return None
    return digest.hexdigest()[:16]


def _tensors_of(value: Any) -> Iterator[Tensor]:
    """The tensors of an entry of a state_dict: the weights of a layer in 8 bits are packed with its
    bias."""
    if isinstance(value, Tensor):
        yield value.dequantize() if value.is_quantized else value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _tensors_of(one)


def recorded_digest(model: Any) -> str | None:
    """`weights_digest` for the origin of a run. It is computed again only when the weights have
    changed since: of small ones every byte is compared with a copy, of large ones version counters
    and samples."""
    if not isinstance(model, nn.Module):
        return None
    named = _named_tensors(model)
    tensors = list({id(tensor): tensor for _, tensor in named}.values())
    key: Any = [(name, id(tensor), version_of(tensor)) for name, tensor in named]
    is_small = sum(tensor.nbytes for tensor in tensors) <= CACHED
    if not is_small:
        key += [[tensor.data_ptr() for tensor in tensors], sampled_digests(tensors)]
    elif not all(map(_saves_its_tensors, modules_within(model))):
        return weights_digest(model)
    known = _computed.get(model)
    try:
        values = [tensor.detach() for tensor in tensors] if is_small else []
        if known is None or known.key != key or not all(map(same_bytes, known.copies, values)):
            copies = [value.clone() for value in values]
            known = _computed[model] = _Computed(key, copies, weights_digest(model))
    except _FAILURES:
        return weights_digest(model)
    return known.digest


def _named_tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Every parameter and buffer of a model, by every name."""
    return [
        (f"{name}.{key}", tensor)
        for name, module in {"": model, **modules_of(model)}.items()
        for part in (module._parameters, module._buffers)
        for key, tensor in part.items()
        if tensor is not None
    ]


def _saves_its_tensors(module: nn.Module) -> bool:
    """Whether what a module saves is its parameters and buffers alone."""
    kind = type(module)
    plain = (
        kind.state_dict is nn.Module.state_dict
        and kind.get_extra_state is nn.Module.get_extra_state
        and kind._save_to_state_dict is nn.Module._save_to_state_dict
    )
    return plain and not module._state_dict_hooks and not module._state_dict_pre_hooks


def version_of(tensor: Tensor) -> int:
    """How often a tensor was changed in place, as PyTorch counts it."""
    return 0 if tensor.is_inference() else tensor._version
