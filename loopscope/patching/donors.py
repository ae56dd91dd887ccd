"""partners: for each example of a run another one of the same run that answers otherwise, as a
donor."""

from torch import Tensor

from ..common.errors import LoopscopeError
from ..recorder.subset import select_examples
from ..runs.run import Run
from .metrics import answer_mask


def partners(
    run: Run, most: int | None = None, answer_positions: Tensor | None = None
) -> tuple[Run, Run, list[int]]:
    """(some examples of the run, their donors, the numbers of the examples): the donor of each is
    the next example of the batch whose answer differs.

    Arguments:
        most: examples; None: all that have a donor.
        answer_positions: positions whose answers count, as in `ls.effects`.

    Raises:
        LoopscopeError: no two examples differ in their answers.
    """
    chosen = _pairs(run, most, answer_positions)
    if not chosen:
        raise LoopscopeError(
            "a donor must answer otherwise than the example, but all examples of this run answer alike. "
            "Record more of them, or "
            "pass donor=."
        )
    rows, others = zip(*chosen, strict=True)
    return select_examples(run, rows), select_examples(run, others), list(rows)


def _pairs(run: Run, most: int | None, answer_positions: Tensor | None) -> list[tuple[int, int]]:
    mask = answer_mask(run, answer_positions)
    answers = run.logits[run.iterations].argmax(-1)
    batch = len(answers)
    chosen: list[tuple[int, int]] = []
    for row in range(batch):
        for step in range(1, batch):
            other = (row + step) % batch
            if bool((mask[row] & (answers[row] != answers[other])).any()):
                chosen.append((row, other))
                break
        if most is not None and len(chosen) == most:
            break
    return chosen


def answers_vary(run: Run, answer_positions: Tensor | None = None) -> bool:
    """Whether there is an example with a donor."""
    try:
        return bool(_pairs(run, 1, answer_positions))
    except LoopscopeError:  # answers of another kind
        return False
