"""Whether the recorded states are what PyTorch's own hooks see, as many and equal bit for bit."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.sites import Path
from ..runs.run import Run
from .finding import Finding, failed, inapplicable, largest_difference, same
from .output_check import unsteady_output
from .plain_calls import Call
from .subject import Subject


def states(subject: Subject) -> Finding:
    """Every tensor of every state, and states[0] where the first call must receive it."""
    if unsteady := unsteady_output(subject):
        return unsteady
    try:
        ends = subject.ends
    except LoopscopeError as error:
        return inapplicable(f"no call of a module returns the state, so plain hooks don't see it: {error}")
    with subject.comparable() as record:
        run = record()
        watched = [*ends.begins, *(module for several in ends.modules.values() for module in several)]
        calls = subject.watched(watched).calls
    off, text = 0.0, ""
    for site, modules in ends.modules.items():
        mine = [call for call in calls if call.module in modules]
        expected = range(ends.first, run.iterations + 1)
        if len(mine) > len(expected):  # a part of the body that is called several times in an iteration
            mine = _last_calls(calls, modules, ends.modules["state"])
        if len(mine) != len(expected):
            return failed(
                f"the run has {run.iterations} iterations, but plain hooks saw {len(mine)} calls of "
                f"{ends.name} where {len(expected)} return its states"
            )
        path = state_path(run, site, mine, ends.first)
        values = [_present(run, site, k) for k in expected]
        seen = [call.returned.get(path) if path is not None else None for call in mine]
        off = max(off, largest_difference(values, seen))
        text = text or f"states[{ends.first}..{run.iterations}] and what plain hooks see {ends.name} return"
    if ends.begins and run.states.get((0,)) is not None:
        first = next(call for call in calls if call.module in ends.begins)
        zero = run.states[0]
        off = max(off, min((largest_difference(zero, one) for one in first.received.values()), default=0.0))
        text = f"states[0], {text}"
    if not off and not calls:
        return inapplicable("the loop ran no iteration")
    return same(off, text)


def _last_calls(calls: Sequence[Call], modules: Any, ends: Any) -> list[Call]:
    """The last call of these modules in each iteration, which a call of `ends` ends."""
    result: list[Call] = []
    latest: Call | None = None
    for call in calls:
        latest = call if call.module in modules else latest
        if call.module in ends and latest is not None:
            result.append(latest)
    return result


def state_path(run: Run, site: str, calls: Sequence[Call], first: int) -> Path | None:
    """Where in what the calls return the recorded values of a state's tensor are: the place at
    which they differ least."""

    def off(path: Path) -> float:
        values = [_present(run, site, first + number) for number in range(len(calls))]
        return largest_difference(values, [call.returned.get(path) for call in calls])

    paths = dict.fromkeys(path for call in calls for path in call.returned)
    return min(paths, key=off, default=None)


def _present(run: Run, site: str, k: int) -> Tensor | None:
    """states[k] without the rows that have left the batch."""
    value, rows = run[site].get((k,)), run[site].rows.get((k,))
    return value if value is None or rows is None else value[rows.to(value.device)]
