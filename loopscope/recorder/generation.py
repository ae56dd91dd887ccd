"""Generation: the forward passes of a model while it generated, and which of them computed which
token."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..common.arguments import Index
from ..common.errors import LoopscopeError, LoopscopeIndexError, nearest
from ..common.guard import guarded
from ..common.text import plural
from ..core.states import States
from ..runs.keep import Keep
from ..runs.run import Run
from .pass_readings import PassReadings
from .returned_rows import ReturnedRows, chained_rows, returned_rows
from .token_places import Place, TokenPlaces, find_places
from .token_values import part_of_run, values_at


class Generation:
    """The forward passes of a model while it generated. `at` and `states` go by the tokens that
    were returned, whichever pass computed them; `runs` has the passes as they ran."""

    instead = "Pass one of its runs: out.at(token=0)."
    """What to do where a run is needed."""

    def __init__(
        self,
        runs: Sequence[Run],
        tokens: Any,
        readings: PassReadings,
        *,
        prompt: Tensor | None = None,
        keep: Keep | None = None,
        beams: bool = False,
        ends: Sequence[int] = (),
    ) -> None:
        """
        Arguments:
            readings: what each pass read.
            prompt: the tokens that generate was given; None if that isn't known.
            keep: what of each pass was kept.
            beams: whether several rows of a pass compete for a returned row.
            ends: tokens that end a row, where no stopping criteria were seen.
        """
        self.runs = list(runs)
        """By pass. The first reads the prompt, or its first chunk; later ones read all tokens so
        far, or with a cache only the newest, and drafts. `run.origin["pass"]` says what one
        read."""
        self.tokens = tokens
        """Prompt and new tokens, (row, position); None if your own code made the passes. Set it to
        what your code returned, if a pass gave several tokens or none."""
        self.output: Any = tokens
        """All that the model's generate returned."""
        self.readings, self.prompt, self.keep = readings, prompt, keep or Keep()
        self.beams, self.ends = beams, ends
        self._places: tuple[Any, int, TokenPlaces] | None = None

    @property
    def places(self) -> TokenPlaces:
        """Where each new token was computed: `passes`, `rows` of the pass's batch and `positions`
        in it, each (token, row), -1 where the row had met its end.

        Raises:
            LoopscopeError: what was returned can't be compared with what the passes read.
        """
        if self._places is None or self._places[0] is not self.tokens or self._places[1] != len(self.runs):
            self._places = (self.tokens, len(self.runs), self._computed_places())
        return self._places[2]

    def _computed_places(self) -> TokenPlaces:
        rows = self._rows()
        places = find_places(
            self.readings.readings,
            rows.sequences,
            rows.prompt,
            rows.lengths,
            identity=not self.beams,
            same_state=self._same_state,
        )
        if rows.problem is not None:
            places.problems[len(places)] = f"{rows.problem}. Set out.tokens to the tokens that were returned"
        return places

    def _rows(self) -> ReturnedRows:
        if self.tokens is None:
            return chained_rows(self.readings.readings, self.readings.hits)
        ends = () if self.readings.watched else self.ends
        return returned_rows(
            self.tokens, self.prompt, self.readings.readings, ended=self.readings.hits, ends=ends
        )

    @guarded
    def at(self, *, token: Index) -> Run:
        """The pass that computed a new token, numbered from 0: `.at(token=5)[3]` is the state after
        3 iterations of that pass.

        It has the returned rows, and its last position is the one from which the token was read. A
        row that had met its end before is absent: NaN, and False in `.states.present`.

        Raises:
            LoopscopeIndexError: there is no such token.
            LoopscopeError: which pass computed it isn't known, or several did.
        """
        places, number = self.places, self._number(token)
        present = places.passes[number] >= 0
        if not present.any():
            raise LoopscopeIndexError(
                f"every row had met its end before token {number}. Choose an earlier one."
            )
        passes = places.passes[number][present].unique().tolist()
        positions = places.positions[number][present].unique().tolist()
        if len(passes) > 1 or len(positions) > 1:
            raise LoopscopeError(
                f"the rows of token {number} must be of one pass to be a run, but were computed by passes "
                f"{passes} at positions {positions}. Use out.states[{number}], which has all rows, or "
                f"out.runs[{passes[0]}]."
            )
        run, rows = self.runs[passes[0]], places.rows[number]
        reading = self.readings.readings[passes[0]]
        assert reading.history is not None
        size, end = (len(reading.history), reading.length), positions[0] + 1
        if torch.equal(rows, torch.arange(size[0])) and end == size[1]:
            return run
        return part_of_run(run, rows, size, end, self.keep)

    def _number(self, token: int) -> int:
        count, problems = len(self.places), self.places.problems
        number = token + (count if token < 0 else 0)
        if number in problems or (number >= count and count in problems):
            raise LoopscopeError(
                f"which pass computed token {number} must be known, but isn't: "
                f"{problems.get(number) or problems[count]}. out.runs has the {_passes(len(self.runs))} as "
                "they ran."
            )
        if not 0 <= number < count:
            many = f"0..{count - 1}" if count else "none"
            raise LoopscopeIndexError(
                f"token must be one of the {count} that were generated, {many}, but is {token}. Generate "
                "more: max_new_tokens=..."
            )
        return number

    @property
    def states(self) -> States:
        """The states at the position that the new token is read from: (token, iteration, batch,
        width). The batch are the returned rows."""
        return self["state"]

    def __getitem__(self, site: str) -> States:
        """A site's values with the axis `token` first, at the position from which the token was
        read, if the site has positions.

        A value is absent where a pass ran fewer iterations, or didn't reach the site, or the row
        had met its end.

        Raises:
            LoopscopeError: no pass recorded the site, or which pass computed a token isn't known.
        """
        if not self.runs:
            raise LoopscopeError(
                f"a generation must have a pass to have '{site}', but the model's forward wasn't called. "
                "Generate a token: max_new_tokens=1; a generate() that calls another method isn't seen."
            )
        if not isinstance(site, str) or all(site not in run for run in self.runs):
            names = f"{nearest(site, self.names)} " if isinstance(site, str) else ""
            raise LoopscopeError(
                f"{site!r} was not recorded in any pass. {names}To have it: sites=[{site!r}]."
            )
        places = self.places
        for token in sorted(places.problems):
            self._number(token)
        values: dict[tuple[int, ...], Tensor] = {}
        masks: dict[tuple[int, ...], Tensor] = {}
        axes: tuple[str, ...] = ()
        for token in range(len(places)):
            values_of, axes_of = values_at(
                site, self.runs, places.passes.shape[1], self._of_token(token), self.keep
            )
            axes = ("token", *axes_of) if axes_of else axes
            values |= {(token, *index): value for index, (value, _) in values_of.items()}
            masks |= {(token, *index): mask for index, (_, mask) in values_of.items() if not mask.all()}
        if not values:
            raise LoopscopeError(
                f"'{site}' must be kept at the positions from which tokens were read, but "
                f"keep={self.keep} left them out. Generate again with keep=ls.keep.positions(-1), or "
                "without keep=."
            )
        return TokenStates(site, values, axes, len(places), rows=masks)

    def _of_token(self, token: int) -> dict[int, tuple[Tensor, Tensor, int, int]]:
        """By pass: the returned rows of a token that it computed, the same in its batch, the
        position, and the number of its positions."""
        places, result = self.places, {}
        for number in places.passes[token].unique().tolist():
            if number >= 0:
                rows = (places.passes[token] == number).nonzero()[:, 0]
                position = int(places.positions[token, rows[0]])
                result[number] = (
                    rows,
                    places.rows[token, rows],
                    position,
                    self.readings.readings[number].length,
                )
        return result

    def _same_state(self, one: Place, other: Place) -> bool:
        """Whether two places hold the same states, up to rounding."""
        if any("state" not in self.runs[place[0]] for place in (one, other)):
            return False
        index = torch.tensor([0])
        first, second = (
            values_at(
                "state",
                self.runs,
                1,
                {number: (index, torch.tensor([row]), position, self.readings.readings[number].length)},
                self.keep,
            )[0]
            for number, row, position in (one, other)
        )
        return (
            bool(first)
            and first.keys() == second.keys()
            and all(_close(first[k][0], second[k][0]) for k in first)
        )

    @property
    def names(self) -> list[str]:
        """The names of all recorded sites."""
        return list(dict.fromkeys(name for run in self.runs for name in run.names))

    def __getattr__(self, name: str) -> Any:
        """A generation has many runs, so what a run has must be asked of one of them.

        Raises:
            GenerationAttributeError: always.
        """
        if hasattr(Run, name) or name in ("iterations", "origin", "halting", "inputs"):
            raise GenerationAttributeError(
                f"a run is needed for {name}, but this is a generation of "
                f"{_passes(len(self.runs))}. {self.instead}"
            )
        raise AttributeError(f"'Generation' object has no attribute {name!r}")

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __repr__(self) -> str:
        counts = sorted({run.iterations for run in self.runs})
        text = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}" if counts else "no"
        passes = _passes(len(self.runs))
        try:
            tokens = f"{plural(len(self.places), 'token')} by {passes}"
        except LoopscopeError:
            tokens = passes
        return f"Generation · {tokens} · {text} iterations each"


class GenerationAttributeError(LoopscopeError, AttributeError):
    """A generation was used in place of one of its runs."""


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


def _passes(count: int) -> str:
    return f"{count} pass{'es' * (count != 1)}"


def _close(one: Tensor, other: Tensor) -> bool:
    """Whether two states are the same computation, up to the rounding of another batch."""
    if not one.is_floating_point():
        return torch.equal(one, other)
    scale = float(other.abs().max()) if other.numel() else 0.0
    return torch.allclose(one, other, rtol=0.0, atol=100 * torch.finfo(one.dtype).eps * scale, equal_nan=True)
