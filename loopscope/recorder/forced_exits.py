"""Exits that are forced while a model generates: by its halting unit, or by its own arguments."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..adapters.base import Adapter
from ..common.errors import LoopscopeError
from ..core.indexing import select
from ..interventions.edit_checks import AnyEdit
from ..interventions.halting_edits import HaltAt
from ..runs.run import Run
from .recording_plan import check_halting
from .token_edits import TokenEditError


def exits_by_input(
    adapter: Adapter | None, modules: Mapping[str, Any], edits: Sequence[AnyEdit]
) -> list[HaltAt]:
    """The edits that the model's own arguments carry out, as no halting unit does.

    Raises:
        LoopscopeError: an edit of halting, of a model without a halting unit and such arguments; or
            of some rows alone, which the arguments don't tell apart.
    """
    if adapter is None or "halting" in modules:
        return []
    result: list[HaltAt] = []
    for edit in edits:
        if getattr(edit, "site", None) != "halting":
            continue
        if not isinstance(edit, HaltAt) or adapter.exit_inputs(edit.iteration) is None:
            check_halting(adapter, modules)
            continue
        if "batch" in edit.where:
            raise LoopscopeError(
                f"{edit}: the number of iterations of {type(adapter.module).__name__} is one for all rows of "
                "a pass, so batch= can't be followed. Leave it out, or generate for these rows alone."
            )
        result.append(edit)
    return result


def check_forced(adapter: Adapter, edits: Sequence[AnyEdit], run: Run) -> None:
    """Raise LoopscopeError if the model's answer isn't that of the iteration in which an edit made
    it halt."""
    whole = run.origin.get("whole", True) and isinstance(run.output, Tensor) and run.output.ndim == 3
    for edit in edits:
        k = edit.iteration + 1 if isinstance(edit, HaltAt) else -1
        if not isinstance(edit, HaltAt) or not whole or not run.reader.reads_states:
            continue
        if k not in run.states.iterations:
            continue
        with torch.no_grad():
            expected = adapter.logits_from_state(run.state(k))
        assert expected is not None
        size = run.output.shape[1]
        if size < expected.shape[1] and edit.where.get("position", 0) != -1:
            continue  # of its last positions alone
        axes = ("batch", "position", "vocab")
        where = tuple(edit.where.get(name, slice(None)) for name in axes)
        one, other = (select(part[:, -size:], where, f"{edit}", axes) for part in (run.output, expected))
        scale = float(other.abs().max()) if other.numel() else 0.0
        if not torch.allclose(one, other, rtol=0.0, atol=100 * torch.finfo(other.dtype).eps * scale):
            raise TokenEditError(
                f"{edit}: the answer of {type(adapter.module).__name__} must be that of the iteration in "
                "which it halts, but isn't: it doesn't follow its halting unit. Set its threshold, or pass "
                "its own argument to generate, such as exit_at_step=."
            )
