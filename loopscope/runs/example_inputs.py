"""select_inputs: the tokens and further inputs of some examples of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..common.errors import LoopscopeIndexError
from ..core.containers import is_container, map_parts


def select_inputs(
    tokens: Tensor, inputs: Mapping[str, Any], rows: Sequence[int]
) -> tuple[Tensor, dict[str, Any]]:
    """The tokens and further inputs of some examples: these rows of every tensor that has one row
    for each example, also of those inside tuples, lists, mappings and dataclasses.

    Raises:
        LoopscopeIndexError: there is no such example.
    """
    rows, batch = list(rows), len(tokens)
    if outside := [row for row in rows if not -batch <= row < batch]:
        raise LoopscopeIndexError(f"rows must be among the {batch} examples, but {outside} are not.")

    def selected(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[rows] if value.shape[:1] == (batch,) else value
        return map_parts(value, selected) if is_container(value) else value

    return tokens[rows], {name: selected(value) for name, value in inputs.items()}
