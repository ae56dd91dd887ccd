"""The edits of one run: patterns and compound edits expanded, iterations and axes checked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from torch import nn

from ..common.arguments import Meaning
from ..common.errors import LoopscopeError, nearest
from ..core.attention_pattern import AttentionPattern
from ..core.indexing import indices
from ..core.sites import resolve
from .compound_edit import CompoundEdit, UpdateSites
from .edits import Edit
from .schedule import ScheduleEdit, Swap

AnyEdit = Edit | ScheduleEdit | Swap | CompoundEdit
Edits = Annotated[
    AnyEdit | Sequence[AnyEdit] | None,
    Meaning(
        "None, one edit or a list of edits, made by patch, ablate, add, steer, freeze, skip, repeat, swap, "
        "halt_at or bias_halting"
    ),
]


def edit_list(
    edits: Edits,
    modules: Mapping[str, nn.Module],
    hooks: Iterable[str],
    *,
    alias: Mapping[str, str] | None = None,
    others: Iterable[str] = (),
) -> list[AnyEdit]:
    """The edits of a run as a list, with one edit for each site that a pattern matches. A module
    that has several names is edited once.

    Arguments:
        edits: a list, one edit alone, or None.
        modules: the module at each site.
        hooks: the sites that patterns, predicates and "all" select from.
        alias: further names of sites.
        others: sites without a module.

    Raises:
        LoopscopeError: something is no edit, or a name or pattern matches no site.
    """
    alias = alias or {}
    names = [*modules, *alias, *others]
    hooks = [name for name in [*hooks, *alias] if not isinstance(modules.get(name), AttentionPattern)]
    result: list[AnyEdit] = []
    for edit in _listed(edits):
        site: Any = getattr(edit, "site", None)
        if site is None:
            result.append(edit)
            continue
        selected = resolve(site, names, hooks)
        if not selected:
            raise LoopscopeError(f"{edit}: no site of this model fits it. Name one that exists.")
        if isinstance(site, str) and selected == [site]:
            result.append(edit)
            continue
        unique = {id(modules.get(alias.get(name, name), name)): name for name in reversed(selected)}
        result += [replace(edit, site=name) for name in reversed(unique.values())]
    return result


def _listed(edits: Any) -> list[Any]:
    if edits is None:
        return []
    if isinstance(edits, AnyEdit):
        return [edits]
    several = isinstance(edits, Iterable) and not isinstance(edits, str | bytes | Mapping)
    for edit in (result := list(edits) if several else [edits]):
        if not isinstance(edit, AnyEdit):
            raise LoopscopeError(
                "an edit is made by patch, ablate, add, steer, freeze, skip, repeat, swap, halt_at or "
                f"bias_halting, but got a {type(edit).__name__}. Pass edits=[ls.ablate(...), ...]."
            )
    return result


def expand_edits(
    edits: Sequence[AnyEdit], fields: tuple[str, ...], update_sites: UpdateSites | None = None
) -> tuple[list[Edit], list[ScheduleEdit | Swap]]:
    """The edits of sites, and the edits of the schedule. A patch with a whole named-tuple state
    becomes one patch for each field.

    Arguments:
        edits: what `edit_list` returned.
        fields: the names of the state's tensors, the primary one first; empty for one tensor.
        update_sites: by field, the sites that an update of it passes inside an iteration.

    Raises:
        LoopscopeError: a state has another number of tensors.
    """
    site_edits: list[Edit] = []
    schedule: list[ScheduleEdit | Swap] = []
    for edit in edits:
        for part in edit.expand(fields, update_sites) if isinstance(edit, CompoundEdit) else [edit]:
            if isinstance(part, Edit):
                site_edits += _by_field(part, fields)
            elif isinstance(part, ScheduleEdit | Swap):
                schedule.append(part)
    return site_edits, schedule


def _by_field(edit: Edit, fields: tuple[str, ...]) -> list[Edit]:
    primary = f"state.{fields[0] if fields else ''}"
    if edit.site not in {"state", primary} or not isinstance(edit.value, tuple):
        return [edit]
    if len(edit.value) != len(fields):
        raise LoopscopeError(
            f"{edit}: this model's state has {len(fields) or 1} tensor(s) {fields}, but the value "
            f"has {len(edit.value)}. Pass run.state({edit.iteration}) of a run of the same model."
        )
    sites = ["state", *(f"state.{name}" for name in fields[1:])]
    return [replace(edit, site=site, value=value) for site, value in zip(sites, edit.value, strict=True)]


def check_iterations(edit: Edit | ScheduleEdit | Swap, first: int, last: int) -> None:
    """Raise LoopscopeError if an edit names an iteration outside first..last, or none of them."""
    selector: Any = edit.iteration if isinstance(edit, Edit) else list(edit.iterations)
    if selector is None:
        return
    size = last + 1
    try:
        chosen = indices(selector, size, "iteration")
    except LoopscopeError:
        chosen = -1
    numbers = [chosen] if isinstance(chosen, int) else chosen
    within = [first <= number <= last for number in numbers]
    if not (any(within) if isinstance(selector, slice) else all(within)):
        mask = selector if isinstance(selector, list) and isinstance(selector[0], bool) else []
        hint = f" A mask needs {size} entries, but has {len(mask)}." if mask and len(mask) != size else ""
        raise LoopscopeError(
            f"{edit}: the iteration must lie in {first}..{last} for this run, or count from the end.{hint} "
            "Choose another, or record more iterations."
        )


def check_axes(edit: Edit, axes: tuple[str, ...]) -> None:
    """Raise LoopscopeError if an edit selects along an axis that its site doesn't have."""
    for name in edit.where:
        if name not in axes:
            raise LoopscopeError(f"{edit}: this site has no axis {name!r}. {nearest(name, axes)}")
