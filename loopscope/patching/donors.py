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
    rows, donors = _rows_and_donors(run, most, answer_positions, each=1)
    return select_examples(run, rows), select_examples(run, [first for (first,) in donors]), rows


def two_donors(
    run: Run, most: int | None = None, answer_positions: Tensor | None = None
) -> tuple[Run, Run, Run, list[int], int]:
    """(examples of the run, a donor for each, a second donor for each, the indices of these
    examples, how many second donors are others than the first). The second donor is the next
    example after the first that could be one; the first itself where there is no other.

    Arguments and errors: as of `donor_pairs`.
    """
    rows, donors = _rows_and_donors(run, most, answer_positions, each=2)
    runs = [select_examples(run, [some[i] for some in donors]) for i in (0, -1)]
    return select_examples(run, rows), runs[0], runs[1], rows, sum(len(some) == 2 for some in donors)


def has_donor_pair(run: Run, answer_positions: Tensor | None = None) -> bool:
    """Whether two examples of the run have different answers."""
    try:
        return bool(_donors(run, 1, answer_positions, each=1))
    except LoopscopeError:  # answers of another kind
        return False


def _rows_and_donors(
    run: Run, most: int | None, answer_positions: Tensor | None, *, each: int
) -> tuple[list[int], list[tuple[int, ...]]]:
    pairs = _donors(run, most, answer_positions, each=each)
    if not pairs:
        raise LoopscopeError(
            "a donor must have another answer than the example, but all examples of this run answer alike. "
            "Record more of them, or pass donor=."
        )
    return list(pairs), list(pairs.values())


def _donors(
    run: Run, most: int | None, answer_positions: Tensor | None, *, each: int
) -> dict[int, tuple[int, ...]]:
    """By example: its donors, `each` of them or fewer, at least one."""
    mask = answer_mask(run, answer_positions)
    answers = run.logits[run.iterations].argmax(-1)
    batch = len(answers)
    result: dict[int, tuple[int, ...]] = {}
    for row in range(batch):
        for offset in range(1, batch):
            donor = (row + offset) % batch
            covers = not bool((run.mask[row] & ~run.mask[donor]).any())
            if covers and bool((mask[row] & (answers[row] != answers[donor])).any()):
                result[row] = (*result.get(row, ()), donor)
                if len(result[row]) == each:
                    break
        if most is not None and len(result) == most:
            break
    return result
