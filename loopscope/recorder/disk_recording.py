"""Recording into a folder: `ls.record(..., to=)`."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..common.errors import LoopscopeError
from ..common.folder_lock import exclusive_use
from ..common.reading import checked_path
from ..runs.keep import Keep
from ..runs.run import Run
from ..runs.value_store import ValueStore, check_free


@contextmanager
def disk_store(
    to: str | os.PathLike[str] | None, keep: Keep | None, grad: bool
) -> Iterator[ValueStore | None]:
    """The store of a recording into the folder `to`; None without one. What a block that fails has
    recorded stays there, as an unfinished run.

    Raises:
        LoopscopeError: the folder has something else, or the values can't be kept there.
    """
    if to is None:
        yield None
        return
    if grad:
        raise LoopscopeError(
            "grad=True keeps the graph of the values, which is in memory, but to= writes them to disk. Leave "
            "out one of them."
        )
    if keep is not None and keep.last is not None:
        raise LoopscopeError(
            f"keep={keep} keeps the last values alone, which fit into memory, but to= writes each as it "
            "comes. Leave out to=, and save the run: run.save(path)."
        )
    folder = checked_path(to, "a folder for the run")
    check_free(folder)
    _make(folder)
    with exclusive_use(folder, "recording"):
        check_free(folder)  # another process may have finished there meanwhile
        store = _opened(folder)
        try:
            yield store
        finally:
            if not store.finished:
                store.abandon()


def begin(
    store: ValueStore | None, tokens: Any, inputs: Mapping[str, Any], header: Mapping[str, Any]
) -> None:
    """Write what is known before the pass, if it is recorded to disk: see `unfinished_run`."""
    if store is not None:
        store.write_begin(tokens, inputs, header)


def stored(store: ValueStore | None, run: Run) -> Run:
    """The run; with a store completed there, and read from there."""
    return run if store is None else run.with_sites(store.finish(run))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LoopscopeError(
            f"to= must be a folder that can be made, but {folder} can't ({error}). Choose another path."
        ) from error


def _opened(folder: Path) -> ValueStore:
    try:
        return ValueStore(folder)
    except OSError as error:
        raise LoopscopeError(
            f"to= must be a folder that can be written, but {folder} can't ({error}). Choose another."
        ) from error
