"""Where a run first holds NaN or infinity."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from ..core.finite import all_finite, has_nan
from ..core.lazy_values import LazyValues
from ..core.sites import is_state
from ..core.states import States
from .blocks import BLOCK
from .run_mask import mask_at

if TYPE_CHECKING:
    from .run import Run


def first_nonfinite(run: "Run") -> tuple[str, int | None] | None:
    """The first site and iteration (None outside the loop) with NaN or infinity, in the order of
    the forward pass; None if all values are finite where positions count."""
    firsts: list[tuple[int, int, str]] = []
    for order, name in enumerate(sorted(run.names, key=lambda name: name == "state")):
        site = run[name]
        if not isinstance(site, States):
            if _bad(name, site):
                return name, None
            continue
        for index in site.by_index:
            if any(
                _bad(name, value) and _bad(name, _that_counts(run, site, index, value, rows))
                for rows, value in _parts(site, index)
            ):
                # states[k] is made by iteration k - 1, after every site inside it
                firsts.append((2 * index[0] - is_state(name), order, name))
                break
    if not firsts:
        return None
    when, _, name = min(firsts)
    return name, (when + 1) // 2 if is_state(name) else when // 2


def _parts(site: States, index: tuple[int, ...]) -> Iterator[tuple[slice, Tensor]]:
    """A value of a site, (its rows, the tensor); of values in files some rows at a time."""
    values = site.by_index
    if not isinstance(values, LazyValues) or site.axes[len(index) : len(index) + 1] != ("batch",):
        yield slice(None), values[index]
        return
    form = values.form(index)
    step = max(1, BLOCK * len(form) // max(1, form.nbytes))
    for start in range(0, len(form), step):
        rows = slice(start, min(start + step, len(form)))
        yield rows, values.rows(index, rows)


def _that_counts(run: "Run", site: States, index: tuple[int, ...], value: Tensor, part: slice) -> Tensor:
    """The value where the row is still in the loop and the position counts.

    Arguments:
        part: the rows that it has.
    """
    axes = site.axes[len(index) :]
    rows = site.rows.get(index)
    rows = None if rows is None else rows[part]
    if axes[:1] != ("batch",):
        return value
    if "position" not in axes or run.counted.everything:
        return value if rows is None else value[rows]
    mask = mask_at(run, site)[part]
    mask = (mask if rows is None else mask & rows[:, None]).to(value.device)
    return value.movedim(axes.index("position"), 1)[mask]


def _bad(site: str, value: Tensor) -> bool:
    if not value.is_floating_point():
        return False
    masked = site.endswith("hook_attn_scores")  # -inf there is the causal mask
    return has_nan(value) if masked else not all_finite(value)
