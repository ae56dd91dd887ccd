"""A run as a file: safetensors with a JSON header. `loopscope.load_run` reads it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.files import load_file, save_file
from ..core.states import States
from ..halting.halting_record import Halting

if TYPE_CHECKING:
    from .run import Run


def save_run(run: "Run", path: str | os.PathLike[str]) -> Path:
    """Write a run to one file. A tensor that is the value of several sites is written once.

    Raises:
        LoopscopeError: a further input of the model can't be written as JSON, or the file can't be
            written.
    """
    tensors, sites = _site_tensors(run)
    tensors |= {
        name: value
        for name, value in (("tokens", run.tokens), ("output", run.output))
        if isinstance(value, Tensor)
    }
    tensors |= {f"input/{name}": value for name, value in run.inputs.items() if isinstance(value, Tensor)}
    header: dict[str, Any] = {
        "kind": "run",
        "origin": run.origin,
        "iterations": run.iterations,
        "sites": sites,
        "inputs": _json_inputs(run.inputs),
    }
    if run.halting is not None:
        fields = vars(run.halting).items()
        tensors |= {f"halting/{name}": value for name, value in fields if isinstance(value, Tensor)}
        header["halting"] = {"kind": run.halting.kind}
    distinct, aliases = _distinct(tensors)
    return save_file(path, distinct, header | {"aliases": aliases})


def read_run(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a file that `save_run` wrote, as arguments of `Run`.

    Raises:
        LoopscopeError: the file is no run, or is damaged.
    """
    tensors, header = load_file(path, kind="run")
    try:
        return _run_arguments(tensors, header)
    except (KeyError, TypeError, ValueError) as error:
        raise LoopscopeError(
            f"{path} lacks what a run needs ({error!r}): take another copy, or record it again."
        ) from error


def _site_tensors(run: "Run") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of all sites by key, and what the header holds about each site."""
    tensors: dict[str, Tensor] = {}
    header: dict[str, Any] = {}
    for name in run.names:
        site = run[name]
        if not isinstance(site, States):
            header[name] = None
            tensors[f"site/{name}/"] = site
            continue
        header[name] = {
            "axes": site.axes,
            "labels": [site.iteration_range.start, site.iteration_range.stop],
            "rows": {_key(index): mask.tolist() for index, mask in site.rows.items()},
        }
        tensors |= {f"site/{name}/{_key(index)}": value for index, value in site.items()}
    return tensors, header


def _json_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The further inputs of a model that are no tensors."""
    result: dict[str, Any] = {}
    for name, value in inputs.items():
        if isinstance(value, Tensor):
            continue
        if not isinstance(value, str | int | float | bool | tuple | list | None):
            raise LoopscopeError(
                f"a run's inputs must be tensors, numbers or words to be saved, but '{name}' is a "
                f"{type(value).__name__}. Record without it, or set run.inputs[{name!r}] to what JSON "
                "can say."
            )
        result[name] = list(value) if isinstance(value, tuple) else value
    return result


def _distinct(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each tensor once, and for every other key of the same tensor the key that has it."""
    first: dict[tuple[Any, ...], str] = {}
    distinct: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for key, value in tensors.items():
        identity = (value.data_ptr(), tuple(value.shape), value.stride(), value.dtype)
        if value.numel() and identity in first:
            aliases[key] = first[identity]
        else:
            first[identity] = key
            distinct[key] = value
    return distinct, aliases


def _run_arguments(tensors: dict[str, Tensor], header: dict[str, Any]) -> dict[str, Any]:
    stored = tensors | {key: tensors[same] for key, same in header["aliases"].items()}

    def group(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}

    sites: dict[str, States | Tensor] = {}
    for name, about in header["sites"].items():
        values = group(f"site/{name}/")
        if about is None:
            sites[name] = values[""]
            continue
        rows = {_index(key): torch.tensor(mask) for key, mask in about.get("rows", {}).items()}
        by_index = {_index(key): value for key, value in values.items()}
        sites[name] = States(name, by_index, tuple(about["axes"]), range(*about["labels"]), rows=rows)
    halting = group("halting/")
    return {
        "tokens": stored.get("tokens"),
        "inputs": header.get("inputs", {}) | group("input/"),
        "iterations": header["iterations"],
        "sites": sites,
        "output": stored.get("output"),
        "origin": header["origin"],
        "halting": Halting(**halting, **header.get("halting", {})) if halting else None,
    }


def _key(index: tuple[int, ...]) -> str:
    return ",".join(map(str, index))


def _index(key: str) -> tuple[int, ...]:
    return tuple(map(int, key.split(",")))
