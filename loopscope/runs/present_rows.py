"""Whether every example is in the loop to its end: of one that has left it the states are NaN."""

from typing import TYPE_CHECKING

import torch

from ..common.errors import LoopscopeError
from ..core.states import States
from .run_mask import mask_at

if TYPE_CHECKING:
    from .run import Run


def require_present(run: "Run") -> None:
    """Raise LoopscopeError if an example that counts has left the loop before its end, as in a
    batch that ended earlier than others of the same run. Its NaN would be counted as states."""
    for name in run.names:
        site = run[name]
        if not isinstance(site, States) or all(bool(rows.all()) for rows in site.rows.values()):
            continue
        counted = mask_at(run, site).any(1)
        left = {index[0]: ~rows & counted.to(rows.device) for index, rows in site.rows.items()}
        if any(bool(rows.any()) for rows in left.values()):
            first = min(k for k, rows in left.items() if rows.any())
            count = int(torch.stack([rows.cpu() for rows in left.values()]).any(0).sum())
            raise LoopscopeError(
                f"every example must be in the loop to its end, but {count} of {len(counted)} have left it, "
                f"the first by '{name}' at {first}, and have no values from there on. Record with "
                "iterations=, so that none leaves, or leave these examples out: mask=."
            )
