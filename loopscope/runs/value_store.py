"""ValueStore: the values of a run that is being recorded, in a folder of their own, written as they
come.

    run/begin.safetensors     what is known before the pass: tokens, inputs, provenance
    run/values-00000...       the values, and where each is (`common.shard_writer`)
    run/index.jsonl
    run/run.safetensors       at the end: the header of the run, as in a run's file, with what else
                              it has (`storage.stored_run`)

Without the last the run is unfinished: it has the values up to the last whole iteration.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.files import save_file
from ..common.shard_index import INDEX
from ..common.shard_reader import ShardedTensors
from ..common.shard_writer import ShardWriter
from ..core.lazy_values import ChosenValues, LoopPlace
from ..core.states import States
from .distinct_tensors import DistinctTensors, packed
from .entry import Entry
from .site_values import SiteValues
from .storage import stored_run
from .stored_entries import StoredEntries

if TYPE_CHECKING:
    from .run import Run

BEGIN, RUN = "begin.safetensors", "run.safetensors"
BEGUN = "begun run"
"""The kind of the file BEGIN."""
_OURS = re.compile(r"begin\.safetensors|index\.jsonl|values-\d{5,}\.safetensors|\..*")


class ValueStore(StoredEntries):
    """Writes the values of one run."""

    def __init__(self, folder: Path) -> None:
        """`folder`: exists, and is this process's alone. What an unfinished run has left there is
        removed.

        Raises:
            OSError: it can't be written.
        """
        self.folder, self.finished = folder, False
        (folder / BEGIN).unlink(missing_ok=True)
        remove_values(folder)
        self.writer = ShardWriter(folder)
        super().__init__(ShardedTensors(folder, self.writer.places))

    def restart(self) -> None:
        """Forget what has been written: the pass is made again."""
        if self.writer.places:
            self.writer.abandon()
            remove_values(self.folder)
            self.writer = ShardWriter(self.folder)
            super().__init__(ShardedTensors(self.folder, self.writer.places))

    def abandon(self) -> None:
        """Leave what has been written as it is; nothing, if the pass hasn't begun."""
        self.writer.abandon()
        if not (self.folder / BEGIN).exists():
            remove_values(self.folder)

    def write_begin(self, tokens: Any, inputs: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        """Write what is known before the pass.

        Raises:
            LoopscopeError: the inputs can't be written.
        """
        tensors = DistinctTensors()
        about = {
            **header,
            "kind": BEGUN,
            "tokens": packed(tensors, "tokens", tokens),
            "inputs": {name: packed(tensors, f"input {name!r}", one) for name, one in inputs.items()},
        }
        save_file(self.folder / BEGIN, tensors.by_name, about)

    def take(self, site: str, entry: Entry) -> Entry:
        """Write a value.

        Returns:
            the entry with what stands for the value in its place.
        """
        value = entry.value.detach()
        number = len(self.writer.places)
        place = ",".join(map(str, entry.index))
        name = f"{number}/{site[:200]}/{place}".encode("utf-8", "replace").decode("utf-8")
        about: dict[str, Any] = {
            "site": site,
            "loops": entry.loops,
            "index": entry.index,
            "axes": entry.axes,
        }
        if entry.rows is not None:
            about["rows"] = entry.rows.tolist()
        self.writer.write(name, value, about)
        form = torch.empty(value.shape, dtype=value.dtype, device="meta")
        return entry._replace(value=form, version=None, stored=name)

    def copied(self, run: "Run", end: int) -> dict[str, States | Tensor]:
        """Write the values of another run before iteration `end`, in the order in which they were
        computed.

        Returns:
            its sites, with these values read from here.
        """
        sites = {name: run[name] for name in run.names}
        names: dict[str, dict[LoopPlace, str]] = {name: {} for name in sites}
        for t in range(end):
            for name, site in sites.items():
                for index in [k for k in site.by_index if k[0] == t] if isinstance(site, States) else []:
                    names[name][index] = self.add(site, index)
        return {
            name: site.with_values(SiteValues(names[name], self.tensors))
            if isinstance(site, States)
            else site
            for name, site in sites.items()
        }

    def add(self, site: States, index: LoopPlace) -> str:
        """Write a value of a site that is there already, and give its name here."""
        depth, value = len(index), site.by_index[index]
        rows = site.rows.get(index)
        entry = Entry(site.axes[:depth], index, value, site.axes[depth:], None, False, rows)
        stored = self.take(site.name, entry).stored
        assert stored is not None
        return stored

    def finish(self, run: "Run") -> dict[str, States | Tensor]:
        """Write what the run has besides the values, and values that came after the pass.

        Returns:
            its sites, as they are in the folder.

        Raises:
            LoopscopeError: a part of the run can't be written.
        """
        tensors = _StoreTensors(self)
        header = {"kind": "run", **stored_run(run, tensors)}
        try:
            header["index"] = self.writer.close()
        except OSError as error:
            raise LoopscopeError(
                f"{self.folder} could not be completed ({error}). What was written can be read: "
                "ls.load_run(folder). Free some space, or choose another folder."
            ) from error
        save_file(self.folder / RUN, tensors.by_name, header)
        self.finished = True
        (self.folder / BEGIN).unlink(missing_ok=True)
        return {name: self._site(run[name], header["sites"][name]["values"]) for name in run.names}

    def _site(self, site: States | Tensor, names: Mapping[str, str]) -> States | Tensor:
        if not isinstance(site, States):
            return site
        values = dict(zip(site.by_index, names.values(), strict=True))
        return site.with_values(SiteValues(values, self.tensors))


class _StoreTensors(DistinctTensors):
    """The tensors of a run's file, without those that are among the values in its folder."""

    def __init__(self, store: ValueStore) -> None:
        super().__init__()
        self._store = store

    def keep(self, name: str, tensor: Tensor) -> str:
        return self._store.outside.get(tensor.data_ptr()) or super().keep(name, tensor)

    def keep_site(self, name: str, site: States) -> dict[LoopPlace, str]:
        """The names of a site's values in the folder. Those that aren't there yet are written."""
        result: dict[LoopPlace, str] = {}
        for index in site.by_index:
            source = _source(site.by_index, index)
            if isinstance(source, SiteValues) and source.tensors is self._store.tensors:
                result[index] = source.names[index]
                continue
            result[index] = self._store.add(site, index)
        return result


def _source(values: Mapping[LoopPlace, Tensor], index: LoopPlace) -> Mapping[LoopPlace, Tensor]:
    return values.source(index) if isinstance(values, ChosenValues) else values


def remove_values(folder: Path) -> None:
    """Remove the values of an unfinished run."""
    for file in folder.iterdir():
        if file.name == INDEX or file.name.startswith("values-"):
            file.unlink()


def check_free(folder: Path) -> None:
    """Raise LoopscopeError unless a folder is empty or not there, or has an unfinished run, which
    may be recorded again."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise LoopscopeError(f"to= must be a folder, but {folder} is a file. Choose another path.")
    names = sorted(file.name for file in folder.iterdir())
    if RUN in names:
        raise LoopscopeError(
            f"to= must be a new folder, but {folder} has a run already. Read it, ls.load_run(folder), "
            "remove it, or choose another."
        )
    foreign = [name for name in names if not _OURS.fullmatch(name)]
    if foreign:
        raise LoopscopeError(
            f"to= must be a new or empty folder, or one of an unfinished run, but {folder} has "
            f"{foreign[0]!r}. Choose another."
        )
