"""Where a run first holds NaN or infinity."""

from typing import TYPE_CHECKING

from torch import Tensor

from ..core.finite import all_finite, has_nan
from ..core.sites import is_state
from ..core.states import States
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
        for index, value in site.items():
            if _bad(name, value) and _bad(name, _that_counts(run, site, index, value)):
                # states[k] is made by iteration k - 1, after every site inside it
                firsts.append((2 * index[0] - is_state(name), order, name))
                break
    if not firsts:
        return None
    when, _, name = min(firsts)
    return name, (when + 1) // 2 if is_state(name) else when // 2


def _that_counts(run: "Run", site: States, index: tuple[int, ...], value: Tensor) -> Tensor:
    """The value where the row is still in the loop and the position counts."""
    axes = site.axes[len(index) :]
    rows = site.rows.get(index)
    if axes[:1] != ("batch",):
        return value
    if "position" not in axes or run.counted.everything:
        return value if rows is None else value[rows]
    mask = mask_at(run, site)
    mask = (mask if rows is None else mask & rows[:, None]).to(value.device)
    return value.movedim(axes.index("position"), 1)[mask]


def _bad(site: str, value: Tensor) -> bool:
    if not value.is_floating_point():
        return False
    masked = site.endswith("hook_attn_scores")  # -inf there is the causal mask
    return has_nan(value) if masked else not all_finite(value)
