"""Where a loop's states go, as the analyses say of each example, and which of these can't both be
true."""

from collections.abc import Iterable, Sequence
from typing import Literal

Fate = Literal[
    "converges",
    "approaches",
    "halts",
    "cycles",
    "quasiperiodic",
    "irregular",
    "drifts",
    "grows",
    "moves",
    "unclear",
]
"""What becomes of an example's states. `approaches`: they will converge if they go on as they do,
but haven't yet. `halts`: they stay where they halted, as the model keeps them, and where the loop
would go isn't known. `moves`: they don't converge, and how they go on isn't known."""

WORDS: dict[Fate, str] = {
    "converges": "converge to a fixed point",
    "approaches": "still approach a fixed point",
    "halts": "are kept where they halted",
    "cycles": "go round a cycle",
    "quasiperiodic": "move quasi-periodically, on a torus",
    "irregular": "move irregularly",
    "drifts": "drift on without coming to rest",
    "grows": "grow without bound",
    "moves": "keep moving",
    "unclear": "are undecided",
}
"""What the states do, after "the states"."""

MEANINGS: dict[Fate, str] = {
    "converges": "the steps shrink to nothing",
    "approaches": "the steps shrink so that they lead to a point, but some way to it is left",
    "halts": "from a full step to none at all; where the loop would go by itself isn't known",
    "cycles": "they return after a number of iterations",
    "quasiperiodic": "they turn with two frequencies that never close",
    "irregular": "they return without a period",
    "drifts": "the path goes on smoothly and doesn't return, outward or not",
    "grows": "the norm keeps rising; no more is known of the path",
    "moves": "how they go on isn't known, or differs by position",
    "unclear": "no analysis knows, or two disagree",
}
"""What that means, of the same."""

_COMPATIBLE = {
    frozenset(pair)
    for pair in (
        ("converges", "approaches"),  # how near is near is each analysis' own
        ("moves", "cycles"),
        ("moves", "quasiperiodic"),
        ("moves", "irregular"),
        ("moves", "drifts"),
        ("moves", "grows"),
        ("drifts", "grows"),
    )
}


def can_both_hold(one: Fate, other: Fate) -> bool:
    """Whether two fates can both be true of the same states: of what halts, the loop by itself may
    go anywhere."""
    untold = {"unclear", "halts"} & {one, other}
    return one == other or bool(untold) or frozenset((one, other)) in _COMPATIBLE


def fate_of_positions(fates: Iterable[Fate]) -> Fate:
    """An example's fate from those of its positions, which are parts of one state.

    It converges if all positions do, halts if some are kept where they halted, and else approaches
    its end if some still do. If some are known to move it does none of these, and its fate is the
    one that they share, if no position's is unclear or halts; else `moves`. It is unclear if no
    position is known to move, and some are unclear.

    >>> fate_of_positions(["converges", "cycles", "converges"])
    'cycles'

    Arguments:
        fates: of the positions that count, at least one.
    """
    known = set(fates)
    calm: tuple[Fate, ...] = ("unclear", "halts", "approaches", "converges")
    moving = known - {*calm}
    if not moving:
        return next(fate for fate in calm if fate in known)
    return moving.pop() if len(moving) == 1 and known.isdisjoint({"unclear", "halts"}) else "moves"


def fates_of_examples(fates: Sequence[Sequence[Fate | None]]) -> dict[int, Fate]:
    """The fate of each example that has a position that counts, by its index.

    Arguments:
        fates: by example and position; None where a position doesn't count.
    """
    counted: list[list[Fate]] = [[fate for fate in row if fate is not None] for row in fates]
    return {row: fate_of_positions(known) for row, known in enumerate(counted) if known}
