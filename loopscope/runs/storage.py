"""A run as a file: safetensors with a JSON header. `loopscope.load_run` reads it.

A site's name is text in the header, and its tensors are numbered, so that a site may have any
name.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.files import StoredTensors, open_file, save_file
from ..core.counted import Counted
from ..core.states import States
from ..halting.halting_record import Halting
from .run_header import REMEDY, RunHeader, StoredSite, checked_header, format_index
from .stored_values import Unwritable, pack, unpack

if TYPE_CHECKING:
    from .run import Run


def save_run(run: "Run", path: str | os.PathLike[str]) -> Path:
    """Write a run to one file. A tensor that is the value of several sites is written once. What
    its origin holds becomes plain JSON; a mapping among its inputs comes back as a dict, and an
    output that isn't made of tensors, numbers, words and containers of them is left out.

    Raises:
        LoopscopeError: a further input of the model can't be written, or the file can't be.
    """
    tensors = _Distinct()
    header: dict[str, Any] = {
        "kind": "run",
        "origin": run.origin,
        "iterations": run.iterations,
        "sites": {name: _stored_site(tensors, i, run[name]) for i, name in enumerate(run.names)},
        "tokens": _packed(tensors, "tokens", run.tokens),
        "output": _packed(tensors, "output", run.output, optional=True),
        "inputs": {name: _packed(tensors, f"input {name!r}", one) for name, one in run.inputs.items()},
    }
    if run.halting is not None:
        header["halting"] = {
            name: tensors.keep(f"halting/{name}", value) if isinstance(value, Tensor) else value
            for name, value in vars(run.halting).items()
        }
    if not run.counted.everything:
        header["counted"] = {"mask": tensors.keep("counted", run.mask), "source": run.counted.source}
    return save_file(path, tensors.by_name, header)


def read_run(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a file that `save_run` wrote, as arguments of `Run`.

    Raises:
        LoopscopeError: the file is no run, or is damaged.
    """
    tensors, header = open_file(path, kind="run")
    about = checked_header(os.fspath(path), header, tensors.keys())
    try:
        return {
            "tokens": None if about.tokens is None else unpack(about.tokens, tensors),
            "inputs": {name: unpack(value, tensors) for name, value in about.inputs.items()},
            "iterations": about.iterations,
            "sites": {name: _site(name, site, tensors) for name, site in about.sites.items()},
            "output": None if about.output is None else unpack(about.output, tensors),
            "origin": about.origin,
            "halting": _halting(about, tensors),
            "counted": _counted(about, tensors),
        }
    except LoopscopeError as error:
        if os.fspath(path) in str(error):
            raise
        raise LoopscopeError(f"{path} must hold a whole run, but {error}. {REMEDY}") from error


class SiteValues(Mapping[tuple[int, ...], Tensor]):
    """A site's tensors by loop index, each of them checked when it is first read."""

    def __init__(self, names: Mapping[tuple[int, ...], str], tensors: Mapping[str, Tensor]) -> None:
        self._names, self._tensors = dict(names), tensors

    def __getitem__(self, index: tuple[int, ...]) -> Tensor:
        return self._tensors[self._names[index]]

    def __contains__(self, index: object) -> bool:
        return index in self._names  # without reading it

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _Distinct:
    """The tensors of a file, each of them once."""

    def __init__(self) -> None:
        self.by_name: dict[str, Tensor] = {}
        self._names: dict[tuple[Any, ...], str] = {}

    def keep(self, name: str, tensor: Tensor) -> str:
        """The name of the tensor in the file: `name`, or that under which it is there already."""
        if tensor.layout == torch.strided and tensor.numel() and tensor.device.type != "meta":
            identity = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)
            name = self._names.setdefault((*identity, tensor.is_conj(), tensor.is_neg()), name)
        self.by_name[name] = self.by_name.get(name, tensor)
        return name


def _stored_site(tensors: _Distinct, number: int, site: States | Tensor) -> dict[str, Any]:
    if not isinstance(site, States):
        return {"values": {"": tensors.keep(f"site/{number}/", site)}}
    labels = site.iteration_range
    return {
        "axes": site.axes,
        "labels": [labels.start, labels.stop, labels.step],
        "rows": {format_index(index): mask.tolist() for index, mask in site.rows.items()},
        "reasons": {str(iteration): reason for iteration, reason in site.reasons.items()},
        "values": {
            format_index(index): tensors.keep(f"site/{number}/{format_index(index)}", value)
            for index, value in site.items()
        },
    }


def _packed(tensors: _Distinct, what: str, value: Any, optional: bool = False) -> Any:
    def keep(tensor: Tensor) -> str:
        name = what if what in ("tokens", "output") and tensor is value else f"value/{len(tensors.by_name)}"
        return tensors.keep(name, tensor)

    before = dict(tensors.by_name)
    try:
        return pack(value, keep)
    except Unwritable as error:
        if optional:
            tensors.by_name = before
            return None
        name = what.removeprefix("input ")
        place = "run.tokens" if name == what else f"run.inputs[{name}]"
        raise LoopscopeError(
            f"a run's {what} must be made of tensors, arrays, numbers, words, and lists or dicts of them to "
            f"be saved, but holds one of type {error}. Set {place} to what can be saved, or to None, and "
            "save again: the recorded values are kept; only what the loaded run computes anew needs it."
        ) from error


def _site(name: str, stored: StoredSite, tensors: StoredTensors) -> States | Tensor:
    if stored.axes is None:
        return tensors[stored.values[""]]
    rows = {index: torch.tensor(mask, dtype=torch.bool) for index, mask in stored.masks.items()}
    for index, place in stored.indices.items():
        shape = tensors.shape(place)
        if len(index) + len(shape) != len(stored.axes):
            raise LoopscopeError(
                f"the site {name[:80]!r} has the axes {stored.axes}, and at {index} a value of shape {shape}"
            )
        if index in rows and shape[:1] != rows[index].shape:
            raise LoopscopeError(f"the site {name[:80]!r} has {len(rows[index])} rows for {shape} at {index}")
    values = SiteValues(stored.indices, tensors)
    reasons = {int(iteration): reason for iteration, reason in stored.reasons.items()}
    return States(name, values, tuple(stored.axes), stored.iteration_range, rows=rows, reasons=reasons)


def _halting(header: RunHeader, tensors: StoredTensors) -> Halting | None:
    if header.halting is None:
        return None
    names = [field.name for field in fields(Halting) if field.name != "kind"]
    missing = [name for name in names if header.halting.get(name) not in tensors]
    if missing:
        raise LoopscopeError(f"its halting lacks {', '.join(missing)}")
    parts = {name: tensors[header.halting[name]] for name in names}
    shape = parts["iteration"].shape
    if parts["weights"].shape[1:] != shape or any(parts[n].shape != shape for n in names if n != "weights"):
        raise LoopscopeError("its halting has parts of shapes that don't belong together")
    return Halting(**parts, kind=header.halting.get("kind", Halting.kind))


def _counted(header: RunHeader, tensors: StoredTensors) -> Counted | None:
    if header.counted is None:
        return None
    mask = tensors[header.counted["mask"]] if header.counted.get("mask") in tensors else None
    if mask is None or mask.dtype != torch.bool or mask.ndim != 2 or "source" not in header.counted:
        raise LoopscopeError("it lacks the mask of the positions that count")
    return Counted(mask, header.counted["source"])
