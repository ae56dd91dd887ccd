"""load_run: a run from its file, with the model that made it.

`loopscope.runs.storage` reads the file, and must not know the zoo. A run of a zoo entry needs that
entry's model to compute logits or to resume, so the function that finds it stands above the zoo,
here.
"""

from collections.abc import Mapping
from typing import Any

import torch

from . import models
from .common.arguments import FilePath
from .common.guard import guarded
from .core.looped_model import Looped
from .recorder.provenance import digest
from .runs.reader import Reader
from .runs.run import Run
from .runs.storage import read_run


@guarded
def load_run(path: FilePath, model: Any = None) -> Run:
    """Read a run that `run.save(path)` wrote.

    >>> run.save("run.safetensors")
    >>> ls.load_run("run.safetensors").states[3].equal(run.states[3])
    True

    Arguments:
        model: the model that made it, needed only to compute from states (`run.logits[k]`,
            `ls.resume`). The model of a zoo entry is loaded from the zoo.

    Raises:
        LoopscopeError: the file is missing, damaged, or no run.
    """
    content = read_run(path)
    reader = _reader(model, content["origin"], content["tokens"], content["inputs"])
    return Run(**content, reader=reader)


def _reader(model: Any, origin: Mapping[str, Any], tokens: Any, inputs: Mapping[str, Any]) -> Reader | None:
    """The reader of a run: of `model`, else of the zoo entry in its origin. None if there is
    none."""
    model = _zoo_model(origin) if model is None else model
    if model is None or not isinstance(model, Looped):
        return None
    if origin.get("edits"):
        return None  # the context may have been edited, and the edits' values are not in the file
    with torch.no_grad():
        context = model.encode(tokens, **inputs)
        state_type = type(model.initial(context))
    return Reader(model, context, lambda state: model.decode(state, context), state_type, grad=False)


def _zoo_model(origin: Mapping[str, Any]) -> Any:
    """The zoo entry that made a run; None if it isn't in the zoo, or has other weights by now."""
    if not origin.get("entry") or origin["entry"] not in models.entries():
        return None
    model = models.load(origin["entry"])
    return model if digest(model) == origin.get("weights") else None
