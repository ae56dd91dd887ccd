"""Where each new token of a generation was computed: in which pass, in which row of that pass's
batch, at which position.

A pass isn't a token. Beams are reordered between passes, a draft is checked by one pass for several
tokens, a prompt in chunks takes several passes, guidance takes two for a token. So the tokens that
every pass read are compared with the tokens that were returned: token j was computed where exactly
the tokens before it had been read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

UNKNOWN = -1
"""In a history, in place of a token that isn't known, such as an embedding."""

Place = tuple[int, int, int]
"""A pass, a row of its batch, and a position among those that it computed."""


@dataclass(frozen=True)
class Reading:
    """What one pass read."""

    history: Int[Tensor, "row position"] | None
    """All tokens up to the end of the pass, those in the cache included; None if that isn't
    known."""
    length: int
    """How many positions the pass computed: the last ones of the history."""
    prepared: bool
    """Whether generate itself prepared the pass with its sequences so far."""
    inner: bool
    """Whether it belongs to a generate inside generate: a draft by the model itself."""

    @property
    def cached(self) -> bool:
        """Whether it read a cache."""
        return self.history is None or self.history.shape[1] > self.length

    def describe(self) -> str:
        """What it read, as a phrase."""
        if self.history is None:
            return f"{self.length} positions of unknown tokens"
        rows, end = self.history.shape
        where = f"positions {end - self.length}..{end - 1}" if self.length > 1 else f"position {end - 1}"
        return f"{where} of {rows} rows{', as a draft' if self.inner else ''}"


@dataclass(frozen=True)
class TokenPlaces:
    """Where each new token was computed; -1 where no pass computed it, because its row had met its
    end."""

    passes: Int[Tensor, "token row"]
    rows: Int[Tensor, "token row"]
    positions: Int[Tensor, "token row"]
    problems: dict[int, str]
    """By token, why its place isn't known."""

    def __len__(self) -> int:
        return len(self.passes)


def find_places(
    readings: Sequence[Reading],
    sequences: Int[Tensor, "row position"],
    prompt: int,
    lengths: Sequence[int],
    *,
    identity: bool,
    same_state: Callable[[Place, Place], bool],
) -> TokenPlaces:
    """Find the place of every new token.

    Arguments:
        sequences: the returned rows, prompt and new tokens.
        prompt: how many positions of them are the prompt.
        lengths: by row, how many new tokens it has up to its end.
        identity: whether row r of the sequences may be taken to be row r of a pass of as many rows,
            where several of them have read the same.
        same_state: whether two places hold the same states, so that either may stand for both.
    """
    rows, tokens = len(sequences), sequences.shape[1] - prompt
    found = torch.full((3, tokens, rows), -1, dtype=torch.long)
    problems: dict[int, str] = {}
    candidates = _candidates(readings, sequences, prompt)
    for token in range(tokens):
        for row in range(rows):
            if token >= lengths[row]:
                continue
            places = candidates.get((token, row), [])
            same_row = identity and bool(places) and _rows(readings[places[0][0]]) == rows
            place = _chosen(places, row if same_row else None, same_state)
            if place is None:
                problems.setdefault(token, _problem(token, row, places, readings))
            else:
                found[:, token, row] = torch.tensor(place)
    return TokenPlaces(found[0], found[1], found[2], problems)


def _candidates(
    readings: Sequence[Reading], sequences: Tensor, prompt: int
) -> dict[tuple[int, int], list[Place]]:
    """By token and row, the places in the first pass that had read exactly the tokens before it. A
    later pass that reads them again, as all do without a cache, gives the token no more."""
    readable = [number for number, r in enumerate(readings) if r.history is not None and not r.inner]
    # Passes that generate didn't prepare itself, such as those of guidance, give no token.
    prepared = [number for number in readable if readings[number].prepared]
    found: dict[tuple[int, int], list[Place]] = {}
    for number in prepared or readable:
        reading = readings[number]
        assert reading.history is not None
        first = reading.history.shape[1] - reading.length
        begin, end = max(first, prompt - 1), min(reading.history.shape[1], sequences.shape[1] - 1)
        if begin >= end:
            continue
        for row, source, at in _alike(reading.history[:, :end], sequences[:, :end], begin).nonzero().tolist():
            place = (number, source, begin + at - first)
            places = found.setdefault((begin + at + 1 - prompt, row), [])
            if not places or places[0][0] == number:
                places.append(place)
    return found


def _rows(reading: Reading) -> int:
    return 0 if reading.history is None else len(reading.history)


def _alike(history: Tensor, sequences: Tensor, begin: int) -> Tensor:
    """Bool (row of the sequences, row of the history, position from `begin` on): whether they agree
    up to that position."""
    equal = (history[None] == sequences[:, None]) | (history[None] == UNKNOWN)
    before = equal[..., :begin].all(-1, keepdim=True)
    return before & equal[..., begin:].long().cumprod(-1).bool()


def _chosen(places: list[Place], row: int | None, same_state: Callable[[Place, Place], bool]) -> Place | None:
    """The place among those of rows that have read the same: that of this row, or any if they hold
    the same states; None if it makes a difference which one it is."""
    same = next((place for place in places if place[1] == row), None)
    if same is not None or not places:
        return same
    return places[0] if all(same_state(places[0], place) for place in places[1:]) else None


def _problem(token: int, row: int, places: list[Place], readings: Sequence[Reading]) -> str:
    if places:
        rows = ", ".join(str(place[1]) for place in places[:8])
        return (
            f"rows {rows} of pass {places[0][0]} had read the same tokens and hold different states, so "
            f"which of them gave token {token} of row {row} isn't known"
        )
    if all(reading.history is None for reading in readings):
        return "what the passes read isn't known"
    return f"no pass read exactly the tokens before token {token} of row {row}"
