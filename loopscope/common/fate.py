"""Where a loop's states go, as the analyses say of each example, and which of these can't both be
true."""

from typing import Literal

Fate = Literal["converges", "cycles", "quasiperiodic", "irregular", "drifts", "grows", "moves", "unclear"]
"""What becomes of an example's states. `moves`: they don't converge, and how they go on isn't
known."""

WORDS: dict[Fate, str] = {
    "converges": "converge to a fixed point",
    "cycles": "go round a cycle",
    "quasiperiodic": "move quasi-periodically, on a torus",
    "irregular": "move irregularly",
    "drifts": "drift",
    "grows": "grow without bound",
    "moves": "keep moving",
    "unclear": "go where these numbers can't tell",
}
"""What the states do, after "the states"."""

_COMPATIBLE = {
    frozenset(pair)
    for pair in (
        ("moves", "cycles"),
        ("moves", "quasiperiodic"),
        ("moves", "irregular"),
        ("moves", "drifts"),
        ("moves", "grows"),
        ("drifts", "grows"),
    )
}


def can_both_hold(one: Fate, other: Fate) -> bool:
    """Whether two fates can both be true of the same states."""
    return one == other or "unclear" in (one, other) or frozenset((one, other)) in _COMPATIBLE
