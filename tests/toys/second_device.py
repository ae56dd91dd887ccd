"""A second device on a machine that has none: tensors that say they are elsewhere, and that the CPU
computes. As on an accelerator, an operation of tensors of both devices fails, a generator of the
CPU draws nothing there, and NumPy cannot read them.

with SecondDevice() as device:
    model.to(device)
"""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
_BETWEEN = {_aten.copy_.default, _aten._to_copy.default}
"""Operations that go from one device to another."""
_INDEXED = {_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default}
"""Operations whose indices may be on the CPU."""


class Elsewhere(Tensor):
    """A tensor that says it is on the second device."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def __new__(cls, real: Tensor) -> "Elsewhere":
        result = torch.Tensor._make_wrapper_subclass(
            cls,
            real.shape,
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            device=torch.device("privateuseone", 0),
        )
        result.held = real
        return result

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatched(func, args, kwargs or {})

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(_with_tensors(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_with_tensors(index), value)

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert a tensor of the second device to numpy. Use Tensor.cpu() first.")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Elsewhere":
        if id(self) not in memo:
            new = Elsewhere(self.held.detach().clone()).requires_grad_(self.requires_grad)
            vars(new).update({name: copy.copy(v) for name, v in vars(self).items() if name != "held"})
            memo[id(self)] = new
        return memo[id(self)]

    def __repr__(self, **_: Any) -> str:
        return f"elsewhere {tuple(self.shape)}"


class _MadeOfData(TorchFunctionMode):
    """Tensors that are made of Python's numbers, which torch copies to a device by itself."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if func is Tensor.new_tensor:
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, "device": args[0].device, **kwargs})
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and device is not None:
            return func(*args, **{**kwargs, "device": None}).to(device)
        return func(*args, **kwargs)


class SecondDevice(TorchDispatchMode):
    """A block in which there is a second device; it is what `with` gives.

    Arguments:
        float64: whether it has 64 bits; Apple's GPUs have none.
    """

    widest, active = True, False

    def __init__(self, float64: bool = True) -> None:
        super().__init__()
        self.float64 = float64

    def __enter__(self) -> Any:
        super().__enter__()
        self.made = _MadeOfData()
        self.made.__enter__()
        SecondDevice.widest, SecondDevice.active = self.float64, True
        return torch.device("privateuseone", 0)

    def __exit__(self, *exception: Any) -> None:
        SecondDevice.widest, SecondDevice.active = True, False
        self.made.__exit__(*exception)
        super().__exit__(*exception)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatched(func, args, kwargs or {})


def second_device_is_possible() -> bool:
    """Register what torch needs to hold tensors of its spare device; False for an older torch."""
    try:
        from torch.utils.backend_registration import _DummyDeviceGuard

        if not hasattr(torch, "privateuseone"):
            torch._C._acc.register_python_privateuseone_device_guard(_DummyDeviceGuard())
            module = {
                "is_initialized": lambda: True,
                "_is_in_bad_fork": lambda: False,
                "is_available": lambda: SecondDevice.active,
                "manual_seed_all": lambda seed: None,
            }
            torch._register_device_module("privateuseone", SimpleNamespace(**module))
    except (ImportError, AttributeError):
        return False
    return True


NEEDS_SECOND_DEVICE = pytest.mark.skipif(
    not second_device_is_possible(), reason="this torch has no devices that are written in Python"
)


def dispatched(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation on the device where its arguments are."""
    given = [one for one in pytree.tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    away = [one for one in given if isinstance(one, Elsewhere)]
    device = kwargs.get("device") or next((one for one in args if isinstance(one, torch.device)), None)
    there = bool(away) if device is None else torch.device(device).type == "privateuseone"
    if not there and not away:
        return func(*args, **kwargs)
    _check_devices(func, args, given, away)
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type == "cpu":
        raise RuntimeError("Expected a 'privateuseone' device type for generator but found 'cpu'")
    wrappers = {id(one.held): one for one in away}
    real_args, real_kwargs = pytree.tree_map_only(Elsewhere, lambda one: one.held, (args, kwargs))
    cpu = torch.device("cpu")
    real_args, real_kwargs = pytree.tree_map_only(torch.device, lambda _: cpu, (real_args, real_kwargs))
    result = func(*real_args, **real_kwargs)
    if not there or func is _aten.copy_.default and not isinstance(args[0], Elsewhere):
        return result

    def wrapped(value: Tensor) -> Tensor:
        return wrappers[id(value)] if id(value) in wrappers else _placed(value)

    return pytree.tree_map_only(Tensor, wrapped, result)


def _with_tensors(index: Any) -> Any:
    """An index with tensors in place of lists, which torch copies to a device by itself."""
    if isinstance(index, tuple):
        return tuple(_with_tensors(one) for one in index)
    return torch.tensor(index) if isinstance(index, list) and index else index


def _placed(value: Tensor) -> Elsewhere:
    if value.dtype == torch.float64 and not SecondDevice.widest:
        raise TypeError("the second device doesn't support float64")
    return Elsewhere(value)


def _check_devices(func: Any, args: Any, given: list[Tensor], away: list[Elsewhere]) -> None:
    if func in _BETWEEN:
        return
    here = [one for one in given if not isinstance(one, Elsewhere) and one.ndim]
    if func in _INDEXED and isinstance(args[0], Elsewhere):
        indices = {id(one) for one in pytree.tree_leaves(args[1])}
        here = [one for one in here if id(one) not in indices]
    if here and away:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"privateuseone:0 and cpu! ({func})"
        )
