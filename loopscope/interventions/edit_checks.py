"""The edits of one run: compound edits expanded, iterations and axes checked."""

from collections.abc import Sequence

from ..common.errors import LoopscopeError, nearest
from .compound_edit import CompoundEdit, UpdateSites
from .edits import Edit
from .schedule import ScheduleEdit

Edits = Sequence[Edit | ScheduleEdit | CompoundEdit]


def expand_edits(
    edits: Edits, fields: tuple[str, ...], update_sites: UpdateSites | None = None
) -> tuple[list[Edit], list[ScheduleEdit]]:
    """The edits of sites, and the edits of the schedule. A patch with a whole named-tuple state
    becomes one patch for each field.

    Arguments:
        fields: the names of the state's tensors, the primary one first; empty for one tensor.
        update_sites: by field, the sites that an update of it passes inside an iteration.

    Raises:
        LoopscopeError: something is no edit, or a state has another number of tensors.
    """
    site_edits: list[Edit] = []
    schedule: list[ScheduleEdit] = []
    for edit in edits:
        for part in edit.expand(fields, update_sites) if isinstance(edit, CompoundEdit) else [edit]:
            if isinstance(part, ScheduleEdit):
                schedule.append(part)
            elif isinstance(part, Edit):
                site_edits += _by_field(part, fields)
            else:
                raise LoopscopeError(
                    "an edit is made by patch, ablate, add, freeze, skip, repeat, swap, halt_at or "
                    f"bias_halting, but got {part!r}."
                )
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
    return [
        Edit(site, edit.action, value, edit.iteration, edit.where)
        for site, value in zip(sites, edit.value, strict=True)
    ]


def check_iterations(edit: Edit | ScheduleEdit, first: int, last: int) -> None:
    """Raise LoopscopeError if an edit names an iteration outside first..last."""
    selector = edit.iteration
    if selector is None or isinstance(selector, slice):
        return
    size = last + 1
    for number in [selector] if isinstance(selector, int) else selector:
        if not first <= (number + size if number < 0 else number) <= last:
            raise LoopscopeError(
                f"{edit}: the iteration must lie in {first}..{last} for this run, or count from the end. "
                "Choose another, or record more iterations."
            )


def check_axes(edit: Edit, axes: tuple[str, ...]) -> None:
    """Raise LoopscopeError if an edit selects along an axis that its site doesn't have."""
    for name in edit.where:
        if name not in axes:
            raise LoopscopeError(f"{edit}: this site has no axis {name!r}. {nearest(name, axes)}")
