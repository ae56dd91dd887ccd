"""Which of many iterations a slider goes through, so that a page stays small."""

MOST = 40
"""Frames of a slider."""


def thinned(count: int, most: int = MOST) -> list[int]:
    """About `most` indices of `count`, evenly spaced, the first and the last among them."""
    step = max(1, -(-(count - 1) // (most - 1)))
    return sorted({*range(0, count, step), count - 1})
