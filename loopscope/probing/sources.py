"""Sources of features for probes: a run, a file that is read piece by piece, several runs.

A source is read in chunks of examples. A chunk has, for a site and an iteration, a tensor (example,
position, width) and the mask of present examples: those that have halted have left the batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from numpy import ndarray as Array
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..core.indexing import as_vectors
from ..core.states import States
from ..runs.run import Run
from ..runs.run_mask import mask_at

SUMS = 250_000_000
"""Bytes of sums that are kept at once while runs are gone through; where there are more, runs are
gone through again."""
SiteIteration = tuple[str, int]
"""(site, iteration)."""
ANY = "any"
"""The site of features that are the same at every site and iteration."""


@dataclass(frozen=True)
class SiteFeatures:
    """One site at one iteration, for the examples of a chunk."""

    values: Tensor
    """(example, position, width); of a site without positions one of them."""
    present: Tensor | None
    """(example): which are there; None: all."""


@dataclass(frozen=True)
class ExampleChunk:
    """Some examples."""

    first: int
    """The number of the first among all."""
    pieces: Mapping[SiteIteration, SiteFeatures]


class FeatureSource:
    """The features that a probe reads."""

    tokens: Any
    """(batch, position) of all examples, or another input of the model."""
    batch: int
    positions: dict[str, int]
    """By site; 1 for one without positions."""
    iterations: dict[str, list[int]]
    """By site: those that are there."""
    origin: Mapping[str, Any]
    model: Any
    """The model that made it, if it is known."""
    mask: Bool[Tensor, "batch position"] | None = None
    """Which positions count; None: all."""

    def blocks(self) -> Iterator[list[SiteIteration]]:
        """Sites and iterations that are read in one pass; one by one where that costs nothing."""
        for site, iterations in self.iterations.items():
            for k in iterations:
                yield [(site, k)]

    def chunks(self, places: Sequence[SiteIteration]) -> Iterator[ExampleChunk]:
        """All examples, in order. May be called again and again."""
        raise NotImplementedError


class RunSource(FeatureSource):
    """A run in memory."""

    def __init__(self, run: Run, sites: Sequence[str], iterations: Sequence[int] | None = None) -> None:
        run.require_finite()
        self.run, self.tokens, self.origin = run, run.tokens, run.origin
        self.model = model_of(run)
        states = {site: _states(run, site) for site in sites}
        first = next(iter(states.values()))
        self.batch, self.mask = batch_and_positions(first)[0], None
        if not run.counted.everything and "batch" in first.axes:
            self.mask = mask_at(run, first)
        self.positions = {site: batch_and_positions(one)[1] for site, one in states.items()}
        self.iterations = {
            site: chosen_iterations(one.iterations, one.iteration_range, iterations)
            for site, one in states.items()
        }
        check_chosen(self.iterations, {site: one.iteration_range for site, one in states.items()}, iterations)

    def chunks(self, places: Sequence[SiteIteration]) -> Iterator[ExampleChunk]:
        yield ExampleChunk(0, {place: site_features(self.run[place[0]], place[1]) for place in places})


class RunsSource(FeatureSource):
    """Several runs, recorded or made one after another."""

    def __init__(
        self, runs: Callable[[], Iterator[Run]], sites: Sequence[str], iterations: Sequence[int] | None = None
    ) -> None:
        self.runs, self.sites = runs, sites
        inputs, self.first, self.batch, self.model = [], [], 0, None
        masks = []
        for run in runs():
            one = RunSource(run, sites, iterations)
            if inputs and (one.iterations != self.iterations or one.positions != self.positions):
                raise LoopscopeError(
                    f"all runs must have the same iterations and positions, but run {len(inputs)} has "
                    f"{_shape(one)} and those before have {_shape(self)}. Record them with the same "
                    "settings, or fit separate probes."
                )
            self.iterations, self.positions, self.origin = one.iterations, one.positions, one.origin
            if not inputs:
                self._width = {
                    s: site_features(run[s], ks[0]).values.shape[2] for s, ks in one.iterations.items()
                }
            self.model = self.model or one.model
            inputs.append(run.tokens)
            masks.append(mask_at(run, run[sites[0]]))
            self.first.append(self.batch)
            self.batch += one.batch
        if not inputs:
            raise LoopscopeError("there must be runs to probe, but there are none.")
        same = all(isinstance(t, Tensor) and t.shape[1:] == inputs[0].shape[1:] for t in inputs)
        self.tokens = torch.cat([t.cpu() for t in inputs]) if same else None
        mask = torch.cat(masks)
        self.mask = None if bool(mask.all()) else mask

    def blocks(self) -> Iterator[list[SiteIteration]]:
        block, size = [], 0
        for site, iterations in self.iterations.items():
            for k in iterations:
                size += 40 * self._width[site] ** 2  # bytes of its sums, with five folds
                if block and size > SUMS:
                    yield block
                    block, size = [], 40 * self._width[site] ** 2
                block.append((site, k))
        yield block

    def chunks(self, places: Sequence[SiteIteration]) -> Iterator[ExampleChunk]:
        for first, run in zip(self.first, self.runs(), strict=True):
            run.require_finite()
            yield ExampleChunk(first, {(site, k): site_features(run[site], k) for site, k in places})


class ArraySource(FeatureSource):
    """The same features at all iterations, such as random ones. They are under the site `any`,
    iteration 0."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.batch, self.tokens, self.model, self.origin = values, len(values), None, None, {}
        self.positions, self.iterations = {ANY: values.shape[1]}, {ANY: [0]}

    def chunks(self, places: Sequence[SiteIteration]) -> Iterator[ExampleChunk]:
        yield ExampleChunk(0, {place: SiteFeatures(self.values, None) for place in places})


def site_features(states: States, k: int) -> SiteFeatures:
    """A site at an iteration. All axes but batch and position (inner loops, heads, width) make up
    the vector."""
    rows = [mask for index, mask in states.rows.items() if index[0] == k]
    present = torch.stack(rows).all(0) if rows else None
    return SiteFeatures(as_vectors(states[k].detach(), states.axes[1:]), present)


def pooled(x: Array, mask: Array) -> Array:
    """The mean of vectors (example, position, width) over the positions of a mask, (example,
    width); 0 where there are none."""
    total = np.where(mask[..., None], x, 0.0).sum(1)
    return total / np.maximum(mask.sum(1), 1)[:, None]


def batch_and_positions(states: States) -> tuple[int, int]:
    """Examples and positions of a site."""
    shape = dict(zip(states.axes[1:], states.shape[1:], strict=True))
    return shape["batch"], shape.get("position", 1)


def chosen_iterations(present: list[int], labels: range, wanted: Sequence[int] | None) -> list[int]:
    """Those of the wanted iterations that are present at a site, each once."""
    if wanted is None:
        return present
    return [k for k in dict.fromkeys(_label(k, labels) for k in wanted) if k in present]


def check_chosen(
    chosen: Mapping[str, Sequence[int]], labels: Mapping[str, range], wanted: Sequence[int] | None
) -> None:
    """Raise LoopscopeError if a wanted iteration is present at none of the sites, or a site has
    none of them.

    Arguments:
        chosen: by site, its iterations that were chosen.
        labels: by site, the iterations that can be addressed.
    """
    absent = [
        k for k in wanted or () if not any(_label(k, labels[site]) in ks for site, ks in chosen.items())
    ]
    empty = [site for site, ks in chosen.items() if not ks]
    if absent or empty:
        what = (
            f"iterations {absent} are absent at {list(chosen)}"
            if absent
            else f"'{empty[0]}' has none of them"
        )
        first = next(iter(labels.values()))
        raise LoopscopeError(
            f"the iterations must be among those recorded and kept, of {first.start}..{first.stop - 1}, but "
            f"{what}. Choose others."
        )


def _label(k: int, labels: range) -> int:
    """The iteration that an index stands for; the index itself if there is none."""
    return labels[k] if -len(labels) <= k < len(labels) else k


def model_of(run: Run) -> Any:
    """The run's model; None if it has none."""
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


def _shape(source: FeatureSource) -> str:
    one = next(iter(source.iterations))
    return f"{len(source.iterations[one])} iterations of {source.positions[one]} positions"
