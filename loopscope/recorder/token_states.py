"""A site's values over the tokens of a generation, each from the pass that computed the token."""

from typing import Protocol

import torch
from torch import Tensor

from ..common.errors import LoopscopeError, LoopscopeIndexError
from ..common.text import plural
from ..core.states import States
from ..runs.keep import Keep
from ..runs.run import Run
from .pass_readings import PassReadings
from .token_places import Place, TokenPlaces
from .token_values import values_at


class TokenPasses(Protocol):
    """Passes with the places of the tokens in them: `loopscope.recorder.generation.Generation`."""

    runs: list[Run]
    readings: PassReadings
    keep: Keep

    @property
    def places(self) -> TokenPlaces: ...


class TokenStates(States):
    """States whose first axis are tokens."""

    def iteration_at(self, index: int) -> int:
        try:
            return self.iteration_range[index]
        except IndexError:
            raise LoopscopeIndexError(
                f"'{self.name}' at token {index} was requested, but this generation has "
                f"{plural(len(self), 'token')}, numbered from 0. Generate more: max_new_tokens=..."
            ) from None


def token_states(site: str, passes: TokenPasses) -> TokenStates:
    """A site's values with the axis `token` first, at the position from which the token was read.

    Raises:
        LoopscopeError: none was kept there.
    """
    places = passes.places
    values: dict[tuple[int, ...], Tensor] = {}
    masks: dict[tuple[int, ...], Tensor] = {}
    axes: tuple[str, ...] = ()
    for token in range(len(places)):
        values_of, axes_of = values_at(
            site, passes.runs, places.passes.shape[1], _of_token(passes, token), passes.keep
        )
        axes = ("token", *axes_of) if axes_of else axes
        values |= {(token, *index): value for index, (value, _) in values_of.items()}
        masks |= {(token, *index): mask for index, (_, mask) in values_of.items() if not mask.all()}
    if not values:
        raise LoopscopeError(
            f"'{site}' must be kept at the positions from which tokens were read, but "
            f"keep={passes.keep} left them out. Generate again with keep=ls.keep.positions(-1), or "
            "without keep=."
        )
    return TokenStates(site, values, axes, len(places), rows=masks)


def same_state(passes: TokenPasses, one: Place, other: Place) -> bool:
    """Whether two places hold the same states, up to rounding."""
    if any("state" not in passes.runs[place[0]] for place in (one, other)):
        return False
    first, second = (_state_at(passes, place) for place in (one, other))
    return bool(first) and first.keys() == second.keys() and all(_close(first[k], second[k]) for k in first)


def _state_at(passes: TokenPasses, place: Place) -> dict[tuple[int, ...], Tensor]:
    number, row, position = place
    rows = (torch.tensor([0]), torch.tensor([row]), position, passes.readings.readings[number].length)
    found, _ = values_at("state", passes.runs, 1, {number: rows}, passes.keep)
    return {index: value for index, (value, _) in found.items()}


def _of_token(passes: TokenPasses, token: int) -> dict[int, tuple[Tensor, Tensor, int, int]]:
    """By pass: the returned rows of a token that it computed, the same in its batch, the position,
    and the number of its positions."""
    places, result = passes.places, {}
    for number in places.passes[token].unique().tolist():
        if number >= 0:
            rows = (places.passes[token] == number).nonzero()[:, 0]
            position = int(places.positions[token, rows[0]])
            length = passes.readings.readings[number].length
            result[number] = (rows, places.rows[token, rows], position, length)
    return result


def _close(one: Tensor, other: Tensor) -> bool:
    """Whether two states are the same computation, up to the rounding of another batch."""
    if not one.is_floating_point():
        return torch.equal(one, other)
    scale = float(other.abs().max()) if other.numel() else 0.0
    return torch.allclose(one, other, rtol=0.0, atol=100 * torch.finfo(one.dtype).eps * scale, equal_nan=True)
