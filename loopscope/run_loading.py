"""load_run: a run from its file, with the model that made it. named_run: a run of whatever a name
stands for.

`loopscope.runs.storage` reads the file, and must not know the zoo. A run of a zoo entry needs that
entry's model to compute logits or to resume, so the function that finds it stands above the zoo,
here.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import models
from .common.arguments import FilePath
from .common.caller import users_stacklevel
from .common.errors import LoopscopeError, LoopscopeWarning
from .common.files import open_file
from .common.guard import guarded
from .core.looped_model import Looped
from .core.model_text import tokenized
from .core.sites import is_state
from .recorder import pretrained as hub
from .recorder.batch_folders import BATCHES, SETTINGS, batch_runs
from .recorder.generation import Generation
from .recorder.generation_storage import KIND as GENERATION
from .recorder.generation_storage import generation_content
from .recorder.pass_reader import loaded_passes
from .recorder.provenance import check_same_model
from .recorder.record_run import record
from .recorder.unfinished_run import unfinished_run
from .runs.joined_batches import joined_batches
from .runs.rebuilt_reader import HeldModel, on_device_of, rebuilt_reader
from .runs.run import Run
from .runs.run_folder import is_finished, open_run_folder
from .runs.storage import run_content
from .runs.value_store import BEGIN, RUN
from .runs.weight_digests import weights_digest
from .wrapping.wrap_module import Wrapped

EXAMPLES = 64
"""Examples of an entry's task that are recorded."""


@guarded
def load_run(path: FilePath, model: Any = None) -> Any:
    """Read a run that `run.save(path)`, `record(..., to=path)` or `record_many` wrote, or a
    generation.

    >>> run.save("run.safetensors")
    >>> ls.load_run("run.safetensors").states[3].equal(run.states[3])
    True

    Arguments:
        model: the model that made it, needed only to compute from states (`run.logits[k]`,
            `ls.resume`). The model of a zoo entry is loaded from the zoo.

    Returns:
        The Run, or for what `generation.save(path)` wrote the Generation.

    Raises:
        LoopscopeError: the file is missing, damaged, or no run; or `model` is another one than made
            the run, or has other weights.
    """
    what = os.fspath(path)
    if os.path.isfile(os.path.join(what, SETTINGS)):
        return _batches(Path(what), model)
    if os.path.isdir(what):
        return _with_model(_folder_content(Path(what)), model, path)
    tensors, header = open_file(path, "run", GENERATION)
    if header["kind"] == GENERATION:
        arguments, output = generation_content(
            what, header, tensors, lambda contents: _passes(contents, model, path)
        )
        return Generation(**arguments, output=output)
    return _with_model(run_content(what, header, tensors), model, path)


def _folder_content(folder: Path) -> dict[str, Any]:
    """What `record(..., to=folder)` has left there, as arguments of Run."""
    if is_finished(folder):
        tensors, header = open_run_folder(folder)
        return run_content(os.fspath(folder), header, tensors)
    content = unfinished_run(folder)
    warnings.warn(
        f"{folder} has a recording that was interrupted: the run ends with iteration "
        f"{content['iterations']}, and has no output.",
        LoopscopeWarning,
        stacklevel=users_stacklevel(),
    )
    return content


def _batches(folder: Path, model: Any) -> Run:
    """What `record_many(..., to=folder)` has left there."""
    runs = batch_runs(folder)
    if not runs:
        raise LoopscopeError(
            f"{folder} must hold a whole batch, but its recording was interrupted before the end of the "
            "first. Record again into this folder."
        )
    if not (folder / BATCHES).is_file():
        warnings.warn(
            f"{folder} has a recording that was interrupted: the run has the first {len(runs)} batches.",
            LoopscopeWarning,
            stacklevel=users_stacklevel(),
        )
    model = _model_of(runs[0].origin, model, folder)
    return joined_batches(runs, None if model is None or isinstance(model, Wrapped) else HeldModel(model))


def _with_model(content: dict[str, Any], model: Any, path: Any) -> Run:
    """The run of what a file holds, with the model that made it."""
    origin = content["origin"]
    model = _model_of(origin, model, path)
    if model is None or isinstance(model, Wrapped):
        return Run(**content)
    for name in ("tokens", "inputs", "output"):
        content[name] = on_device_of(model, content[name])
    try:
        return Run(**content, reader=rebuilt_reader(model, origin, content["tokens"], content["inputs"]))
    except LoopscopeError as error:  # its states are whole, but nothing can be computed from them
        return Run(**content, no_reader=str(error))


def _passes(contents: list[dict[str, Any]], model: Any, path: Any) -> list[Run]:
    """The passes of a generation."""
    return loaded_passes(_model_of(contents[0]["origin"], model, path) if contents else None, contents)


def _model_of(origin: Mapping[str, Any], model: Any, path: Any) -> Any:
    """The model that was passed, if it is that of the recording, else that of the zoo; None if
    there is none."""
    if model is None:
        return _zoo_model(origin)
    _check_passed_model(model, origin, path)
    return model


def named_run(
    name: str,
    iterations: int | None = None,
    examples: int | None = None,
    seed: int = 0,
    texts: Sequence[str] = (),
    *,
    trust_remote_code: bool = False,
    sites: Sequence[str] = (),
) -> Run:
    """The saved run of that name, or a new recording of an entry, a checkpoint or a Hugging Face
    model.

    Arguments:
        examples: None: EXAMPLES of an entry, `recorder.pretrained.EXAMPLES` of a Hugging Face
            model.
        seed: of the examples.
        texts: for a Hugging Face model to read.

    Raises:
        LoopscopeError: there is nothing of that name, or an option has no effect on it.
    """
    if is_run_folder(Path(name)) or (name.endswith(".safetensors") and not is_checkpoint(name)):
        if iterations is not None:
            raise LoopscopeError(
                f"{name} is recorded already, so --iterations={iterations} has no effect. "
                "Leave it out, or name the entry."
            )
        loaded = load_run(name)
        return loaded.run if isinstance(loaded, Generation) else loaded
    if name not in models.entries() and hub.is_pretrained_name(name):
        count = examples or hub.EXAMPLES
        return hub.record_pretrained(
            name, iterations, texts, count, seed=seed, trust_remote_code=trust_remote_code
        )
    if texts:
        raise LoopscopeError(
            f"--text needs the tokenizer of a Hugging Face model, but {name} has none. Leave it out."
        )
    model = models.load(name)
    if model.task is None:
        raise LoopscopeError(
            f"{name} must have a task, whose examples are recorded, but has none. Set model.task before "
            "model.save, or record it in Python: ls.record(ls.models.load(PATH), tokens)."
        )
    inside = [site for site in sites if not is_state(site)]
    return record(model, model.task.batch(examples or EXAMPLES, seed=seed).tokens, iterations, sites=inside)


def named_model(
    name: str,
    texts: Sequence[str] = (),
    *,
    body: str | Sequence[str] | None = None,
    trust_remote_code: bool = False,
) -> tuple[Any, Any]:
    """The entry, checkpoint or Hugging Face model of that name, and what its tokenizer makes of the
    texts; None without any.

    Arguments:
        body: of a Hugging Face model, the part that repeats, where its family isn't known.

    Raises:
        LoopscopeError: there is nothing of that name, or an option has no effect on it.
    """
    if name in models.entries() or not hub.is_pretrained_name(name):
        for option, value in (("--text", texts), ("--body", body)):
            if value:
                raise LoopscopeError(
                    f"{option} is for a Hugging Face model, which {name} isn't. Leave it out."
                )
        return models.load(name), None
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code} | ({"body": body} if body else {})
    tokens = tokenized(hub.tokenizer_of(name, trust_remote_code), list(texts)) if texts else None
    return hub.from_pretrained(name, **options), tokens


def is_run_folder(folder: Path) -> bool:
    """Whether a folder is one that `record(..., to=)` or `record_many` wrote."""
    return any((folder / name).is_file() for name in (RUN, BEGIN, SETTINGS))


def is_checkpoint(name: str) -> bool:
    """Whether a name is that of an entry's or a checkpoint's file."""
    try:
        return bool(models.header(name))
    except LoopscopeError:
        return False


def _check_passed_model(model: Any, origin: Mapping[str, Any], path: Any) -> None:
    if not isinstance(model, Looped | Wrapped):
        raise LoopscopeError(
            f"load_run needs as model= what the run was recorded with, but got a {type(model).__name__}. "
            "Pass that, or nothing."
        )
    check_same_model(
        model.module if isinstance(model, Wrapped) else model, origin, "load_run needs as model="
    )
    if origin.get("weights") is None:
        warnings.warn(
            f"{path} doesn't say with which weights it was recorded, so it can't be known whether model= has "
            "them. What is computed from its states is right only if it has.",
            LoopscopeWarning,
            stacklevel=4,
        )


def _zoo_model(origin: Mapping[str, Any]) -> Any:
    """The zoo entry that made a run; None if it isn't in the zoo, or has other weights by now."""
    if not origin.get("entry") or origin["entry"] not in models.entries():
        return None
    model = models.load(origin["entry"])
    return model if weights_digest(model) == origin.get("weights") else None
