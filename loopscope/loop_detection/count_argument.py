"""The argument of a module's forward that sets the number of iterations, found by trying."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

_WORDS = re.compile(
    r"step|iter|loop|depth|recur|turn|cycle|repeat|round|pass|unroll|segment|ponder|think|^(n|k|t|num|count)$"
)
"""Of names that such arguments have."""
_MOST = 4
"""So many arguments are tried."""


def count_argument(
    module: nn.Module,
    iterations: int,
    inputs: Mapping[str, Any],
    run: Callable[[Mapping[str, Any]], int],
) -> str | None:
    """The name of the argument with which the module runs as many iterations as it says; None if
    there is none.

    Arguments:
        iterations: how many it runs without it.
        inputs: further arguments of the module.
        run: how many iterations run with these arguments.
    """
    for name in _candidates(module, inputs)[:_MOST]:
        if all(_runs(run, inputs, name, n) for n in (iterations + 1, iterations + 2)):
            return name
    return None


def _candidates(module: nn.Module, inputs: Mapping[str, Any]) -> list[str]:
    parameters = list(inspect.signature(module.forward).parameters.values())[1:]
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    numbers = [
        one.name
        for one in parameters
        if one.kind not in kinds
        and one.name not in inputs
        and (one.default is None or type(one.default) is int)
    ]
    return [name for name in numbers if _WORDS.search(name.lower())]


def _runs(run: Callable[[Mapping[str, Any]], int], inputs: Mapping[str, Any], name: str, n: int) -> bool:
    try:
        return run({**inputs, name: n}) == n
    except Exception:  # of the module, to which the argument means something else
        return False
