"""A run whose recording to disk was interrupted, as it was after its last whole iteration.

Its values are in the order in which they were computed. What came after the end of the last whole
iteration is left out; the rest is put together as it is after a pass.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..common.checked_fields import Count, checked_fields
from ..common.errors import LoopscopeError
from ..common.shard_index import INDEX, REMEDY, Place
from ..common.shard_reader import ShardedTensors
from ..core.sites import is_state
from ..core.states import States
from ..runs.entry import Entry
from ..runs.finished_sites import finished_sites
from ..runs.run_folder import open_begun_folder
from ..runs.stored_entries import StoredEntries
from ..runs.stored_values import unpack
from ..wrapping.finished_pass import without_first
from ..wrapping.site_calls import BETWEEN, with_iterations

INTERRUPTED = (
    "the recording was interrupted, so it wasn't seen whether what the body received first is the state "
    "before the loop"
)
"""Why states[0] of a module that was wrapped by its body isn't known."""


@dataclass(frozen=True)
class BegunHeader:
    """What is known before a pass."""

    origin: dict[str, Any]
    tokens: Any = None
    inputs: dict[str, Any] = field(default_factory=dict)
    module_pass: bool = False
    """Whether the model runs its own forward, so that the iteration is inferred from its calls."""
    skipped: list[Count] = field(default_factory=list)
    """Iterations that are skipped there."""


@dataclass(frozen=True)
class _StoredEntry:
    """What the index says of a value."""

    site: str
    loops: tuple[str, ...]
    index: tuple[Count, ...]
    axes: tuple[str, ...]
    rows: list[bool] | None = None


def unfinished_run(folder: Path) -> dict[str, Any]:
    """What a recording that was interrupted has left, as arguments of `Run`.

    Raises:
        LoopscopeError: it ended before its first whole iteration, or a file is damaged.
    """
    file, header, places = open_begun_folder(folder)
    what = str(folder)
    about = checked_fields(BegunHeader, header, what, REMEDY)
    recorded = [_entry(place, f"{folder / INDEX}, {place.name[:80]!r},") for place in places]
    iterations, entries = _whole(recorded, about.module_pass, folder)
    by_site: dict[str, list[Entry]] = defaultdict(list)
    for site, entry in entries:
        by_site[site].append(entry)
    if about.module_pass:
        by_site = {site: _in_module_pass(site, values, iterations, about) for site, values in by_site.items()}
    store = StoredEntries(ShardedTensors(folder, {place.name: place for place in places}))
    sites = finished_sites(by_site, iterations, store=store)
    if about.module_pass:
        sites = {name: _without_first(site) for name, site in sites.items()}
    return {
        "tokens": unpack(about.tokens, file),
        "inputs": {name: unpack(value, file) for name, value in about.inputs.items()},
        "iterations": iterations,
        "sites": {name: sites[name] for name in sorted(sites, key=lambda name: not is_state(name))},
        "output": None,
        "origin": about.origin | {"unfinished": True},
    }


def _entry(place: Place, what: str) -> tuple[str, Entry]:
    about = checked_fields(_StoredEntry, place.about, what, REMEDY)
    form = torch.empty(place.shape, dtype=place.torch_dtype, device="meta")
    rows = None if about.rows is None else torch.tensor(about.rows)
    return about.site, Entry(about.loops, about.index, form, about.axes, None, False, rows, place.name)


def _whole(
    recorded: Sequence[tuple[str, Entry]], module_pass: bool, folder: Path
) -> tuple[int, list[tuple[str, Entry]]]:
    """The number of whole iterations, and the values up to their end.

    An iteration of the driver ends with its states. That of a module's own pass ends where the body
    is called again: what is called after the body belongs to it, too.
    """
    ends: dict[int, int] = {}
    missing: dict[int, set[str]] = {}
    states = {site for site, entry in recorded if is_state(site) and entry.index}
    for place, (site, entry) in enumerate(recorded):
        if not entry.index:
            continue
        if module_pass and site == "core_in":
            ends[entry.index[0]] = place
        elif not module_pass and is_state(site):
            rest = missing.setdefault(entry.index[0], set(states))
            rest.discard(site)
            if not rest:
                ends[entry.index[0]] = place + 1
    if not ends or (module_pass and max(ends) == 0):
        raise LoopscopeError(
            f"{folder} must hold a whole iteration, but its recording was interrupted before the end of the "
            "first. Record again into this folder."
        )
    last = max(ends)
    return last, list(recorded[: ends[last]])


def _in_module_pass(site: str, entries: list[Entry], done: int, about: BegunHeader) -> list[Entry]:
    """Entries with the iterations that they belong to."""
    between = {entry.index[0] for entry in entries if entry.loops[:1] == (BETWEEN,)}
    if 0 in between:  # it is called before the body: the last one is of an iteration that isn't whole
        entries = [e for e in entries if not (e.loops[:1] == (BETWEEN,) and e.index[0] == done)]
    if is_state(site):
        return with_iterations(entries, done, done)
    entries = with_iterations(entries, done, done - 1)
    return [entry for entry in entries if not entry.index or entry.index[0] not in about.skipped]


def _without_first(site: Any) -> Any:
    known = not isinstance(site, States) or not (is_state(site.name) or site.name == "core_in")
    return site if known or 0 not in site.iterations else without_first(site, INTERRUPTED)
