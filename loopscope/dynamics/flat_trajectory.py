"""flat_trajectory: where the map of some examples leads, computed once for all who ask."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.progress import tracked
from ..runs.run import Run
from .iteration_map import IterationMap, agreement


def flat_trajectory(
    run: Run, rows: Sequence[int] | None, end: int, double: bool
) -> tuple[IterationMap, Float[Tensor, "state row width"]]:
    """The map of some examples, and its states from the first of `first_and_last(run)` to `end`.

    The run remembers the longest: a shorter question is answered from it, and a longer one goes on
    from its end. Nothing may be written into the result.

    Arguments:
        rows: examples, by number; None means all.
        end: the k of the last state, no less than that of the run's last.
        double: whether to try double precision; it is given up where it leads elsewhere than the
            run went.
    """
    first, last = first_and_last(run)
    question = ("trajectory", None if rows is None else tuple(rows), double)
    remembered = run.memory.recall(question)
    loop, states = _to_the_end_of(run, rows, double) if remembered is None else remembered
    missing = end - first - (len(states) - 1)
    if missing > 0:
        steps = loop.trajectory(states[-1], missing, end - missing)
        later = list(tracked(steps, "continuing the loop", missing + 1))
        states = torch.cat([states, torch.stack(later[1:])])
    if missing > 0 or remembered is None:
        run.memory.keep(question, (loop, states))
    return loop, states[: end - first + 1]


def first_and_last(run: Run) -> tuple[int, int]:
    """The k of the first and the last state of a run that the map goes through; an edited run is
    continued from its last alone."""
    labels = run.states.iterations
    return labels[-1] if run.origin.get("edits") else labels[0], labels[-1]


def _to_the_end_of(run: Run, rows: Sequence[int] | None, double: bool) -> tuple[IterationMap, Tensor]:
    """The map, and its states up to the last of the run: in double precision, if that reproduces
    the run's."""
    first, last = first_and_last(run)
    loop = IterationMap(run, rows, double)
    states = _continued(loop, run, first, last)
    if loop.double and first < last:
        recorded = run.states[first].dtype
        if torch.finfo(recorded).bits < 32:  # rounding leads elsewhere, so steps are compared
            same = _steps_agree(loop, run, agreement(recorded))
        else:
            same = _agree(states[-1], loop.at(last, run))
        if not same:
            loop = IterationMap(run, rows, double=False)
            states = _continued(loop, run, first, last)
    return loop, states


def _continued(loop: IterationMap, run: Run, first: int, last: int) -> Tensor:
    return torch.stack(list(loop.trajectory(loop.at(first, run), last - first, first)))


def _steps_agree(loop: IterationMap, run: Run, tolerance: float) -> bool:
    """Whether each step of the run is one of the map, to this part of its norm."""
    labels = run.states.iterations
    largest = torch.stack([loop.at(k, run).nan_to_num(0.0, 0.0, 0.0).norm(dim=1) for k in labels]).amax(0)
    with torch.no_grad():
        for k, after in zip(labels, labels[1:], strict=False):
            x, y = loop(loop.at(k, run), k), loop.at(after, run)
            finite = x.isfinite().all(1) & y.isfinite().all(1)
            # near the origin numbers of a short dtype underflow
            size = torch.maximum(torch.maximum(x.norm(dim=1), y.norm(dim=1)), 1e-3 * largest)[finite]
            gap = (x - y)[finite].norm(dim=1)
            if after == k + 1 and not bool((gap <= tolerance * size + 1e-30).all()):
                return False
    return True


def _agree(x: Tensor, y: Tensor) -> bool:
    """Whether two precisions lead to the same states, in the rows that are finite in both."""
    both = x.isfinite().all(1) & y.isfinite().all(1)
    gap, size = (x - y)[both].norm(dim=1), y[both].norm(dim=1)
    return bool((gap <= 1e-3 * size + 1e-30).all())
