"""The values of a pass that is over, by site."""

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from ..core.sites import is_state
from ..core.states import States
from .entry import Entry
from .stored_entries import StoredEntries


def finished_sites(
    entries: Mapping[str, list[Entry]],
    iterations: int,
    *,
    grad: bool = False,
    batch: int | None = None,
    store: StoredEntries | None = None,
) -> dict[str, States | Tensor]:
    """States of a site inside the loop, and the Tensor of one that is called once outside it.

    Arguments:
        entries: by site, in the order of the calls.
        grad: whether the values have their graph.
        batch: the number of rows at first, if rows have left.
        store: has the values that aren't in memory.
    """
    result: dict[str, States | Tensor] = {}
    for site, values in entries.items():
        groups: dict[tuple[str, ...], list[Entry]] = defaultdict(list)
        for entry in values:
            groups[entry.loops].append(entry)
        ordered = sorted(groups, key=len, reverse=True)
        for number, loops in enumerate(ordered):
            name = f"{site}@{'.'.join(loops) or 'outside'}" if number else site
            group = [full_batch(entry, batch) for entry in groups[loops]]
            length = iterations + is_state(site)
            result[name] = _as_states(name, loops, group, length, grad=grad, store=store)
    return result


def _as_states(
    name: str,
    loops: tuple[str, ...],
    entries: list[Entry],
    length: int,
    *,
    grad: bool,
    store: StoredEntries | None,
) -> States | Tensor:
    calls: dict[tuple[int, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        calls[entry.index].append(entry)
    axes = entries[0].axes
    if all(len(group) == 1 for group in calls.values()):
        if not loops:
            only = calls[()][0]
            return only.value if store is None or only.stored is None else store.value(only.stored)
        single = {index: group[0] for index, group in calls.items()}
        return _states(name, single, loops + axes, length, grad=grad, store=store)
    several = {(*index, n): entry for index, group in calls.items() for n, entry in enumerate(group)}
    return _states(
        name, several, (*loops, "call", *axes), length if loops else len(several), grad=grad, store=store
    )


def _states(
    name: str,
    entries: dict[tuple[int, ...], Entry],
    axes: tuple[str, ...],
    length: int,
    *,
    grad: bool,
    store: StoredEntries | None,
) -> States:
    rows = {index: entry.rows for index, entry in entries.items() if entry.rows is not None}
    without = [index for index, entry in entries.items() if not entry.grad] if grad else []
    values = (
        {index: entry.value for index, entry in entries.items()} if store is None else store.by_index(entries)
    )
    return States(name, values, axes, length, rows=rows, without_grad=without)


def full_batch(entry: Entry, batch: int | None) -> Entry:
    """The entry with a row for each example of the first batch, NaN for those that have left, and
    `rows` as a mask."""
    rows, value = entry.rows, entry.value
    if entry.stored is not None or rows is None:
        return entry  # of the stored ones, that was done before they were written
    if batch is None or len(rows) == batch or not value.is_floating_point():
        return entry._replace(rows=None)
    whole = value.new_full((batch, *value.shape[1:]), float("nan"))
    mask = torch.zeros(batch, dtype=torch.bool)
    mask[rows] = True
    return entry._replace(value=whole.index_copy(0, rows.to(value.device), value), rows=mask)
