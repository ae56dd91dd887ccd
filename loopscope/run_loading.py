import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .common.errors import LoopscopeError
from .common.files import load_file
from .core.looped_model import Looped
from .core.states import States
from .halting.halting_record import Halting
from .recorder.provenance import digest
from .runs.run import Reader, Run


def reader_for(
    model: Any, origin: Mapping[str, Any], tokens: Any, inputs: Mapping[str, Any]
) -> Reader | None:
    """The reader of a loaded run: of the model given, or of the zoo entry that made it. None if
    there is neither."""
    if model is None and origin.get("entry"):
        from . import models

        if origin["entry"] in models.entries():
            model = models.load(origin["entry"])
            if digest(model) != origin.get("weights"):
                return None
    if model is None or not isinstance(model, Looped):
        return None
    if origin.get("edits"):
        return None  # the context may have been edited, and the edits' values are not in the file
    with torch.no_grad():
        context = model.encode(tokens, **inputs)
        state_type = type(model.initial(context))
    return Reader(model, context, lambda state: model.decode(state, context), state_type, grad=False)


def load_run(path: str | os.PathLike[str], model: Any = None) -> Run:
    """Read a run that `run.save(path)` wrote.

    Arguments:
        model: what made it, needed only for what is computed from states (`run.logits[k]`,
            `resume`). A run of a zoo entry finds its model by itself.
    """
    tensors, header = load_file(path, kind="run")
    try:
        parts = _parts(tensors, header)
    except (KeyError, TypeError, ValueError) as error:
        raise LoopscopeError(
            f"{path} lacks what a run needs ({error!r}): take another copy, or record it again."
        ) from error
    reader = reader_for(model, header["origin"], parts["tokens"], parts["inputs"])
    return Run(**parts, read=reader)


def _parts(tensors: dict[str, Tensor], header: dict[str, Any]) -> dict[str, Any]:
    """What `Run.save` wrote, as the arguments of a Run."""
    stored = tensors | {key: tensors[same] for key, same in header["aliases"].items()}
    values: dict[str, dict[tuple[int, ...], Tensor]] = {name: {} for name in header["sites"]}
    sites: dict[str, States | Tensor] = {}
    for name, about in header["sites"].items():
        prefix = f"site/{name}/"
        if about is None:
            sites[name] = stored[prefix]
            continue
        for key in stored:
            if key.startswith(prefix):
                values[name][_index(key.removeprefix(prefix))] = stored[key]
        rows = {_index(key): torch.tensor(mask) for key, mask in about.get("rows", {}).items()}
        sites[name] = States(name, values[name], tuple(about["axes"]), range(*about["labels"]), rows=rows)
    halting = {
        key.removeprefix("halting/"): value for key, value in stored.items() if key.startswith("halting/")
    }
    given = {key.removeprefix("input/"): value for key, value in stored.items() if key.startswith("input/")}
    return {
        "tokens": stored.get("tokens"),
        "inputs": header.get("inputs", {}) | given,
        "iterations": header["iterations"],
        "sites": sites,
        "output": stored.get("output"),
        "origin": header["origin"],
        "halting": Halting(**halting, **header.get("halting", {})) if halting else None,
    }


def _index(key: str) -> tuple[int, ...]:
    return tuple(map(int, key.split(",")))
