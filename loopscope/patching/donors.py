"""Donors from the run itself: for each example, another example of the batch with a different
answer."""

from torch import Tensor

from ..common.errors import LoopscopeError
from ..recorder.subset import select_examples
from ..runs.run import Run
from .metrics import answer_mask


def donor_pairs(
    run: Run, most: int | None = None, answer_positions: Tensor | None = None
) -> tuple[Run, Run, list[int]]:
    """(examples of the run, a donor for each of them, the indices of these examples). The donor is
    the next example of the batch with a different answer, of those that count wherever the example
    does.

    Arguments:
        most: number of examples; None: all that have a donor.
        answer_positions: positions whose answers count, as in `ls.effects`.

    Raises:
        LoopscopeError: no two examples have different answers.
    """
    pairs = _pairs(run, most, answer_positions)
    if not pairs:
        raise LoopscopeError(
            "a donor must have another answer than the example, but all examples of this run answer alike. "
            "Record more of them, or pass donor=."
        )
    rows, donors = zip(*pairs, strict=True)
    return select_examples(run, rows), select_examples(run, donors), list(rows)


def has_donor_pair(run: Run, answer_positions: Tensor | None = None) -> bool:
    """Whether two examples of the run have different answers."""
    try:
        return bool(_pairs(run, 1, answer_positions))
    except LoopscopeError:  # answers of another kind
        return False


def _pairs(run: Run, most: int | None, answer_positions: Tensor | None) -> list[tuple[int, int]]:
    mask = answer_mask(run, answer_positions)
    answers = run.logits[run.iterations].argmax(-1)
    batch = len(answers)
    pairs: list[tuple[int, int]] = []
    for row in range(batch):
        for offset in range(1, batch):
            donor = (row + offset) % batch
            covers = not bool((run.mask[row] & ~run.mask[donor]).any())
            if covers and bool((mask[row] & (answers[row] != answers[donor])).any()):
                pairs.append((row, donor))
                break
        if most is not None and len(pairs) == most:
            break
    return pairs
