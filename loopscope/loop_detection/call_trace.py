"""The trace of a forward pass: which modules are called, inside which others, and on whose results
each call depends."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from ..core.hooks import TemporaryHooks
from ..core.preserved_state import preserved_state
from ..core.turns import parts_of, turn

LIVE = 1
"""The label of what was computed from the pass's inputs or from parameters: bit 0. Bit n stands
for the n-th call."""

Shape = tuple[int, int]
"""(number of axes, size of the last axis): doesn't change when rows leave the batch."""


@dataclass(eq=False)
class Call:
    """One call of a module that has parameters."""

    module: nn.Module
    key: int
    """Equal for modules of one class that share the storage of all their parameters."""
    bit: int
    children: list["Call"] = field(default_factory=list)
    dependencies: int = 0
    """The earlier calls on whose results it depends, directly or indirectly, as the sum of their
    bits."""
    input_shapes: set[Shape] = field(default_factory=set)
    output_shapes: set[Shape] = field(default_factory=set)
    start: int = 0
    end: int = 0
    """The index of its first tensor operation in the pass, and of the first one after it."""

    def descendants(self) -> Iterator["Call"]:
        """The calls inside it, at every depth, in order."""
        for child in self.children:
            yield child
            yield from child.descendants()


def storage_key(parameter: Tensor) -> Hashable:
    """Equal for two tensors that are the same memory."""
    # A tensor on the meta device has no address, but a storage object all the same.
    address = parameter.data_ptr() or ("storage", parameter.untyped_storage()._cdata)
    return address, tuple(parameter.shape), parameter.stride()


def trace_calls(
    module: nn.Module, args: tuple[Any, ...], inputs: Mapping[str, Any]
) -> tuple[Call, list[str]]:
    """Run the module once; return its call, with the calls inside it, and the names of all tensor
    operations in order.

    Runs without gradients. Random generators and buffers are restored afterwards.
    """
    flow = _DataFlow(module, (args, inputs))
    root = Call(module, -1, LIVE)
    flow.open_calls = stack = [root]
    keys: dict[Hashable, int] = {}
    count = 0

    def enter(part: nn.Module, key: int) -> Callable[[Any, Any], Any]:
        def before(args: Any, kwargs: Any) -> Any:
            nonlocal count
            count += 1
            call = Call(part, key, 1 << count, start=len(flow.operations))
            call.input_shapes = _shapes((args, kwargs))
            wrapper = next((other for other in stack if other.key == key), None)
            if wrapper is None:
                stack[-1].children.append(call)
            else:  # a wrapper that holds this part alone: one call
                call.children = wrapper.children
            stack.append(call)
            return args, kwargs

        return before

    def unwind(part: nn.Module) -> None:
        """Remove the calls that raised an exception which their caller caught; later calls belong
        to the caller."""
        while stack[-1].module is not part:
            failed = stack.pop()
            if failed in stack[-1].children:
                stack[-1].children.remove(failed)
                stack[-1].children += failed.children

    def leave(part: nn.Module) -> Callable[[Any, Any, Any], Any]:
        def after(args: Any, kwargs: Any, output: Any) -> Any:
            unwind(part)
            call = stack.pop()
            call.end, call.output_shapes = len(flow.operations), _shapes(output)
            flow.label_opaque(call, (args, kwargs), output)
            return output

        return after

    with turn(parts_of(module)), preserved_state(module), torch.no_grad(), TemporaryHooks() as hooks, flow:
        for part in dict.fromkeys(module.modules()):
            stores = tuple(storage_key(parameter) for parameter in part.parameters())
            if stores and part is not module:
                key = keys.setdefault((type(part).__qualname__, stores), len(keys))
                hooks.attach(part, before=enter(part, key), after=leave(part))
        module(*args, **inputs)
    unwind(module)
    root.end = len(flow.operations)
    return root, flow.operations


class _DataFlow(TorchDispatchMode):
    """Tracks data flow through the pass: each storage has a label, the calls that it was computed
    in or from."""

    supports_higher_order_operators = True

    def __init__(self, module: nn.Module, inputs: Any) -> None:
        super().__init__()
        self.operations: list[str] = []
        self.open_calls: list[Call] = []
        self.labels: dict[int, tuple[StorageWeakRef, int]] = {}
        self.mutated_arguments: dict[Any, list[tuple[int, str]]] = {}
        # Statistics such as those of batch norm are written by one call and read by the next, but
        # are no state of a loop.
        self.ignored_storages = {
            buffer.untyped_storage()._cdata
            for part in module.modules()
            if type(part).__module__.startswith("torch.nn.")
            for buffer in part.buffers(recurse=False)
        }
        for tensor in [*module.parameters(), *_tensors(inputs)]:
            self._set_label(tensor, LIVE)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = getattr(getattr(func, "overloadpacket", func), "__name__", str(func))
        self.operations.append(name)
        inputs = _leaves((*args, *(kwargs or {}).values()))
        overwrites = name in ("copy_", "zero_", "fill_") and _fills_storage(args[0])
        if overwrites:
            inputs = inputs[1:]
        # A tensor that copies only the shape of another doesn't depend on it.
        shape_only = name.endswith("_like") or name.startswith("new_") or name == "zero_"
        label = 0 if shape_only else self._label_of(inputs)
        for call in self.open_calls[1:] if label else ():
            call.dependencies |= label & (call.bit - 1)
            label |= call.bit
        options = kwargs or {}
        mutated = _leaves(args[i] if i < len(args) else options.get(name) for i, name in self._mutated(func))
        sources = {storage._cdata for storage in map(_storage, inputs) if storage is not None}  # of views
        for tensor in _leaves((output,)):
            storage = _storage(tensor)
            if storage is not None and storage._cdata not in sources:
                self._set_label(tensor, label, overwrite=overwrites)
        for tensor in mutated:
            self._set_label(tensor, label, overwrite=overwrites)
        return output

    def label_opaque(self, call: Call, inputs: Any, output: Any) -> None:
        """Label outputs of kernels that PyTorch doesn't dispatch: they depend on all inputs of the
        call."""
        for tensor in _tensors(output):
            if not self._label_of([tensor]):
                call.dependencies |= self._label_of(_tensors(inputs)) & (call.bit - 1)
                self._set_label(tensor, call.dependencies | call.bit | LIVE)

    def _mutated(self, func: Any) -> list[tuple[int, str]]:
        """The indices and names of the arguments that an operation changes in place."""
        if func not in self.mutated_arguments:
            schema = getattr(func, "_schema", None)
            self.mutated_arguments[func] = [
                (i, argument.name)
                for i, argument in enumerate(schema.arguments if schema else ())
                if argument.alias_info is not None and argument.alias_info.is_write
            ]
        return self.mutated_arguments[func]

    def _label_of(self, tensors: Iterable[Tensor]) -> int:
        label = 0
        for tensor in tensors:
            storage = _storage(tensor)
            if storage is not None and storage._cdata in self.labels:
                label |= self.labels[storage._cdata][1]
        return label

    def _set_label(self, tensor: Tensor, label: int, overwrite: bool = False) -> None:
        storage = _storage(tensor)
        if storage is None or storage._cdata in self.ignored_storages:
            return
        # A weak reference keeps the address from being given to another storage.
        reference, old = self.labels.get(storage._cdata) or (StorageWeakRef(storage), 0)
        self.labels[storage._cdata] = (reference, label | (0 if overwrite else old))


def _storage(tensor: Tensor) -> Any:
    """The storage of a floating-point tensor, which can be a state; None for tokens and masks."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return None
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):  # sparse tensors and the like
        return None


def _fills_storage(tensor: Tensor) -> bool:
    storage = _storage(tensor)
    return storage is not None and tensor.numel() * tensor.element_size() == storage.nbytes()


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
    return {(t.ndim, t.shape[-1]) for t in _tensors(value) if t.ndim and _storage(t) is not None}


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
