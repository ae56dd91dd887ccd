"""A run as a file: safetensors with a JSON header. `loopscope.load_run` reads it.

A site's name is text in the header, and its tensors are numbered, so that a site may have any
name.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.files import save_file
from ..common.lazy_tensors import LazyTensors
from ..core.counted import Counted
from ..core.states import States
from ..halting.halting_record import Halting
from .distinct_tensors import DistinctTensors, packed
from .run_header import REMEDY, RunHeader, StoredSite, checked_header, format_index
from .site_values import SiteValues
from .stored_values import unpack

if TYPE_CHECKING:
    from .run import Run


def save_run(run: "Run", path: str | os.PathLike[str]) -> Path:
    """Write a run to one file. A tensor that is the value of several sites is written once. What
    its origin holds becomes plain JSON; a mapping among its inputs comes back as a dict, and an
    output that isn't made of tensors, numbers, words and containers of them is left out.

    Raises:
        LoopscopeError: a further input of the model can't be written, or the file can't be.
    """
    tensors = DistinctTensors()
    header = {"kind": "run", **stored_run(run, tensors)}
    return save_file(path, tensors.by_name, header)


def stored_run(run: "Run", tensors: DistinctTensors) -> dict[str, Any]:
    """A run as JSON, with its tensors kept in `tensors`. Raises as `save_run` does."""
    header: dict[str, Any] = {
        "origin": run.origin,
        "iterations": run.iterations,
        "sites": {name: _stored_site(tensors, i, run[name]) for i, name in enumerate(run.names)},
        "tokens": packed(tensors, "tokens", run.tokens),
        "output": packed(tensors, "output", run.output, optional=True),
        "inputs": {name: packed(tensors, f"input {name!r}", one) for name, one in run.inputs.items()},
    }
    if run.halting is not None:
        header["halting"] = {
            name: tensors.keep(f"halting/{name}", value) if isinstance(value, Tensor) else value
            for name, value in vars(run.halting).items()
        }
    if not run.counted.everything:
        header["counted"] = {"mask": tensors.keep("counted", run.mask), "source": run.counted.source}
    return header


def run_content(what: str, header: Mapping[str, Any], tensors: LazyTensors) -> dict[str, Any]:
    """What `stored_run` made JSON of, as arguments of `Run`.

    Arguments:
        what: the file.

    Raises:
        LoopscopeError: it isn't such JSON, or a tensor is missing or damaged.
    """
    about = checked_header(what, header, tensors.keys())
    with whole(what, "run"):
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


@contextmanager
def whole(what: str, kind: str) -> Iterator[None]:
    """Name the file, and what to do, in an error about its content."""
    try:
        yield
    except LoopscopeError as error:
        if what in str(error):
            raise
        raise LoopscopeError(f"{what} must hold a whole {kind}, but {error}. {REMEDY}") from error


def _stored_site(tensors: DistinctTensors, number: int, site: States | Tensor) -> dict[str, Any]:
    if not isinstance(site, States):
        return {"values": {"": tensors.keep(f"site/{number}/", site)}}
    labels = site.iteration_range
    return {
        "axes": site.axes,
        "labels": [labels.start, labels.stop, labels.step],
        "rows": {format_index(index): mask.tolist() for index, mask in site.rows.items()},
        "reasons": {str(iteration): reason for iteration, reason in site.reasons.items()},
        "values": {format_index(k): name for k, name in tensors.keep_site(f"site/{number}/", site).items()},
    }


def _site(name: str, stored: StoredSite, tensors: LazyTensors) -> States | Tensor:
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


def _halting(header: RunHeader, tensors: LazyTensors) -> Halting | None:
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


def _counted(header: RunHeader, tensors: LazyTensors) -> Counted | None:
    if header.counted is None:
        return None
    mask = tensors[header.counted["mask"]] if header.counted.get("mask") in tensors else None
    if mask is None or mask.dtype != torch.bool or mask.ndim != 2 or "source" not in header.counted:
        raise LoopscopeError("it lacks the mask of the positions that count")
    return Counted(mask, header.counted["source"])
