"""Generation: the forward passes of a model while it generated, and which of them computed which
token."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
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
from .generated_run import generated_run
from .generation_storage import save_generation
from .pass_readings import PassReadings
from .returned_rows import ReturnedRows, chained_rows, returned_rows
from .token_places import TokenPlaces, find_places
from .token_states import same_state, token_states
from .token_values import part_of_run


class Generation:
    """The forward passes of a model while it generated. `at` and `states` go by the tokens that
    were returned, whichever pass computed them; `runs` has the passes as they ran."""

    instead = "Pass its tokens as one run, out.run, or the run of one pass: out.at(token=0)."
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
        output: Any = None,
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
        self.output: Any = tokens if output is None else output
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
            same_state=partial(same_state, self),
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

    @property
    def run(self) -> Run:
        """The new tokens as one run, for analyses: position j is that from which token j was read,
        `run.states[k]` (batch, position, width), and the batch are the returned rows. Its logits
        are the model's own, before any sampling.

        >>> ls.analyses.measure("convergence", out)      # as with out.run
        >>> ls.report(out).save("generation.html")

        Nothing is iterated on from it, as what its positions read of others isn't there: for that
        record the tokens in one pass, `ls.record(model, out.tokens[:, :-1])`. A site of which
        tokens have values of different sizes, such as an attention pattern, is left out.

        Raises:
            LoopscopeError: no token was generated, which pass computed one isn't known, or the
                passes ran different numbers of iterations.
        """
        for token in sorted(self.places.problems):
            self._number(token)
        return generated_run(self, self._rows())

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the generation as one safetensors file with a JSON header; `loopscope.load_run`
        reads it.

        Raises:
            LoopscopeError: its tokens, or a further input of a pass, can't be written as JSON, or
                the file can't be written.
        """
        return save_generation(self, path)

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
        for token in sorted(self.places.problems):
            self._number(token)
        return token_states(site, self)

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


def _passes(count: int) -> str:
    return f"{count} pass{'es' * (count != 1)}"
