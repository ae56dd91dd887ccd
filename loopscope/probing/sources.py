"""Where probes find their features: the states of a run, of a run's file that is read piece by
piece, of runs one by one.

Whatever the source, it is gone through in chunks of examples. Each chunk gives, for a site and an
iteration, a tensor (example, position, width) and the examples that are there: those that have left
a ragged loop are not.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..core.indexing import as_vectors
from ..core.states import States
from ..runs.run import Run

SUMS = 250_000_000
"""Bytes of sums that are kept at once while runs are gone through; where there are more, runs are
gone through again."""
Place = tuple[str, int]
"""A site and an iteration."""


@dataclass(frozen=True)
class Piece:
    """One site at one iteration, for the examples of a chunk."""

    values: Tensor
    """(example, position, width); of a site without positions one of them."""
    present: Tensor | None
    """(example): which are there; None: all."""


@dataclass(frozen=True)
class Chunk:
    """Some examples."""

    first: int
    """The number of the first among all."""
    pieces: Mapping[Place, Piece]


class Source:
    """What a probe reads."""

    tokens: Any
    """(batch, position) of all examples, or what else the model was given."""
    batch: int
    positions: dict[str, int]
    """By site; 1 for one without positions."""
    iterations: dict[str, list[int]]
    """By site: those that are there."""
    origin: Mapping[str, Any]
    model: Any
    """The model that made it, if it is known."""

    def blocks(self) -> Iterator[list[Place]]:
        """Groups of places that are gone through together: one by one where that costs nothing."""
        for site, iterations in self.iterations.items():
            for k in iterations:
                yield [(site, k)]

    def chunks(self, places: Sequence[Place]) -> Iterator[Chunk]:
        """All examples, in order. May be called again and again."""
        raise NotImplementedError


class RunSource(Source):
    """A run in memory."""

    def __init__(self, run: Run, sites: Sequence[str], iterations: Sequence[int] | None = None) -> None:
        run.require_finite()
        self.run, self.tokens, self.origin = run, run.tokens, run.origin
        self.model = model_of(run)
        states = {site: _states(run, site) for site in sites}
        self.batch = sizes(next(iter(states.values())))[0]
        self.positions = {site: sizes(one)[1] for site, one in states.items()}
        self.iterations = {
            site: chosen(site, one.iterations, one.iteration_range, iterations)
            for site, one in states.items()
        }

    def chunks(self, places: Sequence[Place]) -> Iterator[Chunk]:
        yield Chunk(0, {place: piece_of(self.run[place[0]], place[1]) for place in places})


class RunsSource(Source):
    """Several runs, recorded or made one after another."""

    def __init__(
        self, runs: Callable[[], Iterator[Run]], sites: Sequence[str], iterations: Sequence[int] | None = None
    ) -> None:
        self.runs, self.sites = runs, sites
        told, self.first, self.batch, self.model = [], [], 0, None
        for run in runs():
            one = RunSource(run, sites, iterations)
            if told and (one.iterations != self.iterations or one.positions != self.positions):
                raise LoopscopeError(
                    f"all runs must have the same iterations and positions, but run {len(told)} has "
                    f"{_shape(one)} and those before have {_shape(self)}. Record them alike, or probe them "
                    "apart."
                )
            self.iterations, self.positions, self.origin = one.iterations, one.positions, one.origin
            if not told:
                self._width = {s: piece_of(run[s], ks[0]).values.shape[2] for s, ks in one.iterations.items()}
            self.model = self.model or one.model
            told.append(run.tokens)
            self.first.append(self.batch)
            self.batch += one.batch
        if not told:
            raise LoopscopeError("there must be runs to probe, but there are none.")
        same = all(isinstance(t, Tensor) and t.shape[1:] == told[0].shape[1:] for t in told)
        self.tokens = torch.cat([t.cpu() for t in told]) if same else None

    def blocks(self) -> Iterator[list[Place]]:
        block, size = [], 0
        for site, iterations in self.iterations.items():
            for k in iterations:
                size += 40 * self._width[site] ** 2  # bytes of its sums, with five folds
                if block and size > SUMS:
                    yield block
                    block, size = [], 40 * self._width[site] ** 2
                block.append((site, k))
        yield block

    def chunks(self, places: Sequence[Place]) -> Iterator[Chunk]:
        for first, run in zip(self.first, self.runs(), strict=True):
            run.require_finite()
            yield Chunk(first, {(site, k): piece_of(run[site], k) for site, k in places})


class ArraySource(Source):
    """The same features at all iterations, such as random ones. The only site is `given`, its
    iteration 0."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.batch, self.tokens, self.model, self.origin = values, len(values), None, None, {}
        self.positions, self.iterations = {"given": values.shape[1]}, {"given": [0]}

    def chunks(self, places: Sequence[Place]) -> Iterator[Chunk]:
        yield Chunk(0, {place: Piece(self.values, None) for place in places})


def piece_of(states: States, k: int) -> Piece:
    """A site at an iteration: every axis but batch and position is the vector, inner loops too, and
    heads."""
    rows = [mask for index, mask in states.rows.items() if index[0] == k]
    present = torch.stack(rows).all(0) if rows else None
    return Piece(as_vectors(states[k].detach(), states.axes[1:]), present)


def sizes(states: States) -> tuple[int, int]:
    """Examples and positions of a site."""
    shape = dict(zip(states.axes[1:], states.shape[1:], strict=True))
    return shape["batch"], shape.get("position", 1)


def chosen(site: str, present: list[int], labels: range, wanted: Sequence[int] | None) -> list[int]:
    """The iterations that are asked for, of those that a site has."""
    if wanted is None:
        return present
    result = [labels[k] if -len(labels) <= k < len(labels) else k for k in wanted]
    kept = [k for k in dict.fromkeys(result) if k in present]
    if not kept:
        raise LoopscopeError(
            f"'{site}' must have one of the iterations {list(wanted)}, but has {present[0]}..{present[-1]}. "
            "Choose others."
        )
    return kept


def model_of(run: Run) -> Any:
    try:
        return run.model
    except LoopscopeError:
        return None


def _states(run: Run, site: str) -> States:
    states = run[site]
    if not isinstance(states, States) or not states.iterations:
        raise LoopscopeError(
            f"a probe needs a site with iterations, but '{site}' was called once, outside the loop. "
            f"{nearest(site, run.names)}"
        )
    if "batch" not in states.axes:
        raise LoopscopeError(f"a probe needs a site with a batch, but '{site}' has the axes {states.axes}.")
    if not next(iter(states.items()))[1].is_floating_point():
        raise LoopscopeError(f"a probe needs a site of real numbers, but '{site}' is {states!r}.")
    return states


def _shape(source: Source) -> str:
    one = next(iter(source.iterations))
    return f"{len(source.iterations[one])} iterations of {source.positions[one]} positions"
