"""Calls: which modules a forward pass calls, inside which others, and which of them work on what
which others gave."""

import random
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from ..core.hooks import TemporaryHooks

LIVE = 1
"""Marks what was computed from the pass's inputs or from parameters: bit 0. Bit n is the n-th
call."""

Shape = tuple[int, int]
"""(number of axes, size of the last): what stays when rows leave the batch."""


@dataclass(eq=False)
class Call:
    """One call of a module that has parameters."""

    module: nn.Module
    key: int
    """Equal for modules of one class that share the storage of all their parameters."""
    bit: int
    children: list["Call"] = field(default_factory=list)
    reads: int = 0
    """The calls on whose results it worked, at first or second hand, as the sum of their bits."""
    takes: set[Shape] = field(default_factory=set)
    gives: set[Shape] = field(default_factory=set)
    start: int = 0
    end: int = 0
    """Where it stands among the tensor operations of the pass."""

    def tree(self) -> Iterator["Call"]:
        """The calls inside it, at any depth, in order."""
        for child in self.children:
            yield child
            yield from child.tree()


def store(parameter: Tensor) -> Hashable:
    """The same for two tensors that are the same numbers in memory."""
    # A tensor on the meta device has no address, but a storage object all the same.
    where = parameter.data_ptr() or ("storage", parameter.untyped_storage()._cdata)
    return where, tuple(parameter.shape), parameter.stride()


def traced(module: nn.Module, args: tuple[Any, ...], inputs: Mapping[str, Any]) -> tuple[Call, list[str]]:
    """Run the module once and return its call, with those inside it, and the names of all tensor
    operations in order.

    Without gradients, with generators and buffers put back to where they were.
    """
    flow = _Flow(module, (args, inputs))
    root = Call(module, -1, LIVE)
    flow.inside = stack = [root]
    keys: dict[Hashable, int] = {}
    count = 0

    def enter(part: nn.Module, key: int) -> Callable[[Any, Any], Any]:
        def before(args: Any, kwargs: Any) -> Any:
            nonlocal count
            count += 1
            call = Call(part, key, 1 << count, start=len(flow.operations))
            call.takes = _shapes((args, kwargs))
            same = next((other for other in stack if other.key == key), None)
            if same is None:
                stack[-1].children.append(call)
            else:  # what a wrapper calls that holds one part alone is the wrapper's own
                call.children = same.children
            stack.append(call)
            return args, kwargs

        return before

    def unwind(part: nn.Module) -> None:
        """Forget the calls that raised, and whose caller went on; what came after them is the
        caller's."""
        while stack[-1].module is not part:
            lost = stack.pop()
            if lost in stack[-1].children:
                stack[-1].children.remove(lost)
                stack[-1].children += lost.children

    def leave(part: nn.Module) -> Callable[[Any, Any, Any], Any]:
        def after(args: Any, kwargs: Any, output: Any) -> Any:
            unwind(part)
            call = stack.pop()
            call.end, call.gives = len(flow.operations), _shapes(output)
            flow.opaque(call, (args, kwargs), output)
            return output

        return after

    with _undisturbed(module), torch.no_grad(), TemporaryHooks() as taps, flow:
        for part in dict.fromkeys(module.modules()):
            stores = tuple(store(parameter) for parameter in part.parameters())
            if stores and part is not module:
                key = keys.setdefault((type(part).__qualname__, stores), len(keys))
                taps.attach(part, before=enter(part, key), after=leave(part))
        module(*args, **inputs)
    unwind(module)
    root.end = len(flow.operations)
    return root, flow.operations


class _Flow(TorchDispatchMode):
    """Follows every number through the pass: each storage is labelled with the calls that it was
    computed in or from."""

    supports_higher_order_operators = True

    def __init__(self, module: nn.Module, inputs: Any) -> None:
        super().__init__()
        self.operations: list[str] = []
        self.inside: list[Call] = []
        self.labels: dict[int, tuple[StorageWeakRef, int]] = {}
        self.writes: dict[Any, list[tuple[int, str]]] = {}
        # Batch norm's statistics and the like are written by one call and read by the next, but are
        # no state of a loop.
        self.deaf = {
            buffer.untyped_storage()._cdata
            for part in module.modules()
            if type(part).__module__.startswith("torch.nn.")
            for buffer in part.buffers(recurse=False)
        }
        for tensor in [*module.parameters(), *_tensors(inputs)]:
            self._write(tensor, LIVE)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = getattr(getattr(func, "overloadpacket", func), "__name__", str(func))
        self.operations.append(name)
        inputs = _leaves((*args, *(kwargs or {}).values()))
        overwrites = name in ("copy_", "zero_", "fill_") and _whole(args[0])
        if overwrites:
            inputs = inputs[1:]
        # What is only as large as something else doesn't depend on it.
        sized = name.endswith("_like") or name.startswith("new_") or name == "zero_"
        label = 0 if sized else self._read(inputs)
        for call in self.inside[1:] if label else ():
            call.reads |= label & (call.bit - 1)
            label |= call.bit
        named = kwargs or {}
        written = _leaves(args[i] if i < len(args) else named.get(name) for i, name in self._written(func))
        viewed = {cell._cdata for cell in map(_cell, inputs) if cell is not None}  # a view computes nothing
        for tensor in _leaves((output,)):
            cell = _cell(tensor)
            if cell is not None and cell._cdata not in viewed:
                self._write(tensor, label, anew=overwrites)
        for tensor in written:
            self._write(tensor, label, anew=overwrites)
        return output

    def opaque(self, call: Call, given: Any, output: Any) -> None:
        """What a kernel unknown to PyTorch computed has no label yet; it counts as computed from
        all that was given."""
        for tensor in _tensors(output):
            if not self._read([tensor]):
                call.reads |= self._read(_tensors(given)) & (call.bit - 1)
                self._write(tensor, call.reads | call.bit | LIVE)

    def _written(self, func: Any) -> list[tuple[int, str]]:
        """The places and names of the arguments that an operation changes in place."""
        if func not in self.writes:
            schema = getattr(func, "_schema", None)
            self.writes[func] = [
                (i, argument.name)
                for i, argument in enumerate(schema.arguments if schema else ())
                if argument.alias_info is not None and argument.alias_info.is_write
            ]
        return self.writes[func]

    def _read(self, tensors: Iterable[Tensor]) -> int:
        label = 0
        for tensor in tensors:
            cell = _cell(tensor)
            if cell is not None and cell._cdata in self.labels:
                label |= self.labels[cell._cdata][1]
        return label

    def _write(self, tensor: Tensor, label: int, anew: bool = False) -> None:
        cell = _cell(tensor)
        if cell is None or cell._cdata in self.deaf:
            return
        # A weak reference keeps the address from being given to another storage.
        kept, old = self.labels.get(cell._cdata) or (StorageWeakRef(cell), 0)
        self.labels[cell._cdata] = (kept, label | (0 if anew else old))


def _cell(tensor: Tensor) -> Any:
    """The storage of a tensor of numbers that can be a state; tokens and masks carry none."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return None
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):  # sparse tensors and the like
        return None


def _whole(tensor: Tensor) -> bool:
    cell = _cell(tensor)
    return cell is not None and tensor.numel() * tensor.element_size() == cell.nbytes()


def _leaves(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among an operation's arguments or results."""
    result: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            result.append(value)
        elif isinstance(value, tuple | list):
            result += _leaves(value)
    return result


def _shapes(value: Any) -> set[Shape]:
    return {(t.ndim, t.shape[-1]) for t in _tensors(value) if t.ndim and _cell(t) is not None}


def _tensors(value: Any, depth: int = 4) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif depth:
        if isinstance(value, Mapping):
            inner = list(value.values())
        elif is_dataclass(value):
            inner = [getattr(value, each.name, None) for each in fields(value)]
        else:
            inner = value if isinstance(value, tuple | list) else ()
        for each in inner:
            yield from _tensors(each, depth - 1)


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """Random generators and buffers are afterwards what they were before."""
    owners = [(part, name) for part in module.modules() for name in part._buffers]
    kept = [(part, name, part._buffers[name]) for part, name in owners]
    copies = [None if buffer is None else buffer.clone() for _, _, buffer in kept]
    devices = {p.device.index for p in module.parameters() if p.device.type == "cuda"}
    python, numpy = random.getstate(), np.random.get_state()
    with ExitStack() as after, torch.random.fork_rng(devices=sorted(devices)):
        after.callback(random.setstate, python)
        after.callback(np.random.set_state, numpy)
        try:
            yield
        finally:
            with torch.no_grad():
                for (part, name, buffer), copy in zip(kept, copies, strict=True):
                    if buffer is not None and copy is not None and not torch.equal(buffer, copy):
                        buffer.copy_(copy)
                    part._buffers[name] = buffer
