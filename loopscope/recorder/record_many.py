"""record_many: a data set, recorded to disk batch by batch, as one run."""

import shutil
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from torch import Tensor

from ..common.arguments import Count, FilePath, Seed
from ..common.errors import LoopscopeError, LoopscopeWarning
from ..common.files import checksum, load_header, save_file
from ..common.folder_lock import exclusive_use
from ..common.guard import guarded
from ..common.progress import progress as progress_bar
from ..common.reading import checked_path
from ..core.model_text import model_input
from ..core.sites import Sites, tensors_in
from ..interventions.edit_checks import Edits
from ..runs.joined_batches import check_alike, equal, joined_batches
from ..runs.keep import Keep
from ..runs.rebuilt_reader import HeldModel
from ..runs.run import Run
from ..wrapping.iterated import Iterated
from ..wrapping.wrap_module import Wrapped
from .batch_folders import BATCHES, BEGUN_BATCHES, SETTINGS, batch_folder, batch_run, batch_runs
from .provenance import circumstances
from .record_run import record


# It is long because its docstring explains nine arguments.
@guarded
def record_many(
    model: Any,
    batches: Iterable[Any],
    *,
    to: FilePath,
    iterations: Count | None = None,
    sites: Sites = (),
    edits: Edits = (),
    keep: Keep | None = None,
    seed: Seed | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Run:
    """Record a data set to disk, batch by batch, as one run: its batch axis has the examples of all
    batches, one after the other.

    >>> batches = [model.task.batch(64, seed=seed).tokens for seed in range(100)]
    >>> run = ls.record_many(model, batches, to="run/", iterations=32)
    >>> run.states.shape
    (33, 6400, 17, 64)

    If it is interrupted, the same call goes on: batches that are in the folder are compared with
    the given ones, and not computed again. Until then `load_run` gives those that are whole.

    Arguments:
        batches: any iterable (a list, a generator, a DataLoader) of what `record` takes as tokens,
            or of pairs (tokens, further inputs by name). All of one length: pad shorter ones, and
            pass the mask.
        to: a folder of its own.
        iterations, sites, edits, keep: as for `record`.
        seed: of the first batch; batch i has seed + i. Of a model that draws random numbers, only
            what is recorded with a seed is the same after an interruption.
        progress: a line on stderr; None: on a terminal and in a notebook.
        options: as for `record`: tokenizer, count_special, copy, and inputs that all batches have.

    Returns:
        the run. States are read from the folder when they are asked for, and of the batches that an
        `.at(batch=slice(...))` selects only. Where a batch's loop ended earlier than others, its
        rows are absent. An output, or a site outside the loop, of more than a gigabyte is left out,
        and with a warning any site that doesn't have a row for each example.

    Raises:
        LoopscopeError: as `record`; batches of different lengths, or the folder has other batches,
            other settings or another model's.
    """
    if isinstance(batches, Tensor | str | Mapping):
        raise LoopscopeError(
            f"batches must be several, such as a list, but is one {type(batches).__name__}. Split it, "
            "tokens.split(64), or record it alone: ls.record(model, tokens, to=...)."
        )
    folder = checked_path(to, "a folder for the run")
    settings = _settings(model, iterations, sites, edits, keep, seed, options)
    _begin(folder, settings)
    recorded = {"iterations": iterations, "sites": sites, "edits": edits, "keep": keep, **options}
    first: Run | None = None
    count = 0
    counting = progress_bar("recording batches", _length(batches), progress)
    with exclusive_use(folder, "recording"), counting as step:
        for number, batch in enumerate(batches):
            tokens, inputs = _parts(batch)
            place = batch_folder(folder, number)
            run = batch_run(place)
            if run is None:
                its_seed = None if seed is None else seed + number
                record(model, tokens, seed=its_seed, to=place, **recorded, **inputs)
                run = batch_run(place)
                assert run is not None
                _check_fits(first, run, number, place)
            else:
                _check_batch(model, tokens, inputs, options, run, number, place)
            first, count = first or run, number + 1
            step()
        _check_count(folder, count)
        save_file(folder / BATCHES, {}, {"kind": "run of batches", "batches": count})
    return joined_batches(batch_runs(folder), None if isinstance(model, Wrapped) else HeldModel(model))


def _length(batches: Any) -> int | None:
    """How many batches there are; None where that isn't known."""
    try:
        return len(batches)
    except TypeError:  # a generator, or a DataLoader of a dataset without a length
        return None


def _parts(batch: Any) -> tuple[Any, Mapping[str, Any]]:
    """Tokens and further inputs of a batch."""
    parts: list[Any] = list(batch) if isinstance(batch, tuple | list) else []
    if len(parts) == 1 and isinstance(parts[0], Tensor):
        return parts[0], {}  # of a DataLoader of a TensorDataset
    pair = len(parts) == 2 and isinstance(parts[1], Mapping)
    return (parts[0], parts[1]) if pair else (batch, {})


def _settings(
    model: Any,
    iterations: int | None,
    sites: Sites,
    edits: Any,
    keep: Keep | None,
    seed: int | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """What must be the same for all batches of a folder, as JSON."""
    subject = model.wrapped if isinstance(model, Iterated) else model
    about = circumstances(subject.module if isinstance(subject, Wrapped) else subject, (), keep, seed)
    listed = list(edits or ()) if isinstance(edits, list | tuple | NoneType) else [edits]
    names = getattr(sites, "__name__", "a function") if callable(sites) else sites
    of_machine = ("versions", "device", "edits")  # which may be others when it goes on
    return {
        **{name: value for name, value in about.items() if name not in of_machine},
        "iterations": iterations,
        "sites": [names] if isinstance(names, str) else list(names),
        "edits": [_described(edit) for edit in listed],
        "options": {name: _plain(value) for name, value in sorted(options.items())},
    }


def _described(edit: Any) -> str:
    """An edit as text, with a checksum of each tensor that it has."""
    sums = [checksum(tensor) for _, tensor in tensors_in(vars(edit) if hasattr(edit, "__dict__") else edit)]
    return " ".join([str(edit), *sums])


def _plain(value: Any) -> Any:
    """An option as JSON: itself if it is plain, else its type, and for tensors their checksums."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return [type(value).__name__, *(checksum(tensor) for _, tensor in tensors_in(value))]


def _begin(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a new folder, or compare them with those of one that is there."""
    if (folder / SETTINGS).is_file():
        stored = load_header(folder / SETTINGS, BEGUN_BATCHES)["settings"]
        for name, value in settings.items():
            if stored.get(name) != value:
                raise LoopscopeError(
                    f"the batches of one run must be recorded alike, but those in {folder} have {name} = "
                    f"{str(stored.get(name))[:200]}, and this call has {str(value)[:200]}. Record as "
                    "before, or choose another folder."
                )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LoopscopeError(
            f"to= must be a new or empty folder, or one that record_many began, but {folder} is neither. "
            "Choose another."
        )
    save_file(folder / SETTINGS, {}, {"kind": BEGUN_BATCHES, "settings": settings})


def _check_fits(first: Run | None, run: Run, number: int, place: Path) -> None:
    """Raise LoopscopeError, and remove the batch, if it can't be put together with the first, or
    with any."""
    runs = [run] if first is None else [first, run]
    try:
        check_alike(runs[0], run, number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LoopscopeWarning)  # which the whole run gives
            joined_batches(runs)
    except LoopscopeError:
        shutil.rmtree(place)
        raise


def _check_batch(
    model: Any,
    tokens: Any,
    inputs: Mapping[str, Any],
    options: Mapping[str, Any],
    run: Run,
    number: int,
    place: Path,
) -> None:
    """Raise LoopscopeError unless a batch is the one that was recorded."""
    ours = ("tokenizer", "count_special", "copy")
    further = {name: value for name, value in options.items() if name not in ours} | dict(inputs)
    subject = model.wrapped if isinstance(model, Iterated) else model
    read = model_input(subject, tokens, further, options.get("tokenizer"))
    inputs = dict(read.inputs)
    if isinstance(subject, Wrapped) and subject.names.count is not None and subject.names.count in run.inputs:
        inputs.setdefault(subject.names.count, run.inputs[subject.names.count])  # iterations=
    same = equal(read.tokens, run.tokens) and equal(inputs, run.inputs)
    if not same:
        raise LoopscopeError(
            f"batch {number} must be the one that was recorded in {place}, but has other tokens or inputs. "
            "Give the batches in the same order, or choose another folder."
        )


def _check_count(folder: Path, count: int) -> None:
    if count == 0:
        raise LoopscopeError("batches must have one batch or more, but there was none.")
    if (further := batch_folder(folder, count)).exists():
        raise LoopscopeError(
            f"the batches must be those that were recorded in {folder}, but there were {count}, and it has "
            f"{further.name} too. Give all of them, or choose another folder."
        )
