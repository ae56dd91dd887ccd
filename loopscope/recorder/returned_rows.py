"""The rows that a generation returned, aligned with what its passes read: where the prompt ends,
and where each row met its end."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ..common.errors import LoopscopeError
from .token_places import UNKNOWN, Reading

_NOT_READ = -2
"""In place of a token that no pass has read."""


@dataclass(frozen=True)
class ReturnedRows:
    """Rows of tokens, the prompt first."""

    sequences: Int[Tensor, "row position"]
    prompt: int
    """How many positions are the prompt."""
    lengths: list[int]
    """By row, how many new tokens it has up to its end."""
    problem: str | None = None
    """Why there may be more tokens than these; None if these are all."""


def key(sequence: Tensor) -> bytes:
    """A sequence of tokens as a member of a set."""
    return sequence.contiguous().numpy().tobytes()


def returned_rows(
    tokens: Any,
    prompt: Tensor | None,
    readings: Sequence[Reading],
    *,
    ended: Collection[bytes],
    ends: Collection[int],
) -> ReturnedRows:
    """Align what generate returned with what the passes read.

    Arguments:
        tokens: what generate returned: prompt and new tokens, or the new ones alone.
        prompt: what it was given; None if that isn't known.
        ended: the sequences that stopping criteria ended, by `key`.
        ends: tokens that end a row.

    Raises:
        LoopscopeError: no tensor (row, position), or rows that don't begin as the prompt does.
    """
    if not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.is_floating_point():
        kind = f"of shape {tuple(tokens.shape)}" if isinstance(tokens, Tensor) else type(tokens).__name__
        raise LoopscopeError(
            "tokens must be whole numbers (row, position), prompt and new tokens, to say which pass "
            f"computed which, but are {kind}. Set out.tokens to them, or use out.runs, the passes as they "
            "ran."
        )
    rows = tokens.detach().to("cpu", torch.long, copy=True)
    first = next((r.history for r in readings if r.history is not None and not r.inner), None)
    unknown = 0 if first is None else int((first == UNKNOWN).all(0).long().cumprod(0).sum())
    starts = [_rows_of(start, len(rows)) for start in (prompt, None if first is None else first[:, unknown:])]
    width = next(
        (s.shape[1] for s in starts if s is not None and torch.equal(rows[:, : s.shape[1]], s)), None
    )
    start = next((start for start in starts if start is not None), None)
    if width is None and start is not None:  # the new tokens alone
        width, rows = start.shape[1], torch.cat([start, rows], 1)
    if width is None:
        raise LoopscopeError(
            f"the {len(rows)} returned rows must begin as the prompt does, to say which pass computed which "
            "token, but don't. Use out.runs, the passes as they ran."
        )
    lengths = [_length(row, width, ended, ends) for row in rows]
    rows = torch.cat([torch.full((len(rows), unknown), UNKNOWN), rows], 1)
    return ReturnedRows(rows, width + unknown, lengths)


def chained_rows(readings: Sequence[Reading], ended: Collection[bytes]) -> ReturnedRows:
    """The rows that the passes of your own code read, where each pass goes on with the one before
    by one token; the last token was read by none."""
    usable = [r.history for r in readings if r.history is not None and not r.inner]
    if not usable or len(usable) < len(readings):
        problem = "what the passes had in their caches isn't known"
        return ReturnedRows(torch.zeros(0, 1, dtype=torch.long), 1, [], problem)
    rows, problem = usable[0], None
    for number, history in enumerate(usable[1:], 1):
        width = rows.shape[1]
        if history.shape != (len(rows), width + 1) or not torch.equal(history[:, :width], rows):
            problem = (
                f"pass {number}, which read {readings[number].describe()}, doesn't go on with pass "
                f"{number - 1} by one token"
            )
            break
        rows = history
    prompt = usable[0].shape[1]
    rows = torch.cat([rows, torch.full((len(rows), 1), _NOT_READ)], 1)
    return ReturnedRows(rows, prompt, [_length(row, prompt, ended, ()) for row in rows], problem)


def _rows_of(start: Tensor | None, count: int) -> Tensor | None:
    """The prompt of each of `count` rows, of which there are several for each prompt, or fewer than
    rows of a pass, such as the best beams."""
    if start is None or start.ndim != 2 or not len(start):
        return None
    start = start.detach().to("cpu", torch.long)
    if count % len(start) == 0:
        return start.repeat_interleave(count // len(start), 0)
    return start[:: len(start) // count] if len(start) % count == 0 else None


def _length(row: Tensor, prompt: int, ended: Collection[bytes], ends: Collection[int]) -> int:
    """How many new tokens a row has up to its end."""
    new = len(row) - prompt
    hit = (
        j for j in range(1, new + 1) if int(row[prompt + j - 1]) in ends or key(row[: prompt + j]) in ended
    )
    return next(hit, new)
