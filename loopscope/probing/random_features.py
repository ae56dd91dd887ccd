"""Random features to compare with: of an untrained model of the same architecture, or random
functions of the input."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.sites import is_state
from ..recorder.record_run import record
from ..recorder.untrained import untrained_model
from ..runs.run import Run
from .sources import ANY, ExampleChunk, FeatureSource, RunSource, RunsSource, SiteFeatures, SiteIteration

RandomFeatures = Literal["untrained", "projection"]
_PIECE = 8_000_000  # bytes that are made at once


def random_source(
    source: FeatureSource, sites: Sequence[str], seed: int, wanted: RandomFeatures | Run | None
) -> tuple[FeatureSource | None, str]:
    """Random features for the examples of a source, and their description. None if there can't be
    any.

    Arguments:
        wanted: "untrained" or "projection"; None: an untrained model where it can be built; or a
            run to be taken.
    """
    if isinstance(wanted, Run):
        chosen = sorted({k for ks in source.iterations.values() for k in ks})
        return _alike(RunSource(wanted, sites, chosen), source), "those of another run"
    if wanted not in (None, "untrained", "projection"):
        raise LoopscopeError(f"random must be 'untrained' or 'projection', but is {wanted!r}.")
    why = "an untrained model can't be built here"
    if wanted != "projection" and isinstance(source.tokens, Tensor):
        try:
            return _untrained(source, sites, seed), "an untrained model of the same architecture"
        except LoopscopeError as error:
            why = str(error)
    if wanted == "untrained":
        raise LoopscopeError(f'{why}. Pass random="projection" instead.')
    if not isinstance(source.tokens, Tensor) or source.tokens.ndim < 2:
        return None, "none: the inputs are no tensor"
    width = _width(source, sites)
    positions = max(source.positions.values())
    causal = getattr(getattr(source.model, "task", None), "causal", True)
    made = Projection(source.tokens, positions, width, seed, causal=causal)
    return made, "random functions of the input"


def _untrained(source: FeatureSource, sites: Sequence[str], seed: int) -> FeatureSource:
    model = untrained_model(source.model, seed)
    iterations = max(max(k) + (not is_state(site)) for site, k in source.iterations.items())
    inside = [site for site in sites if not is_state(site)]
    chosen = sorted({k for ks in source.iterations.values() for k in ks})
    run: Run | None = getattr(source, "run", None)
    inputs = {} if run is None else run.inputs

    def made(tokens: Tensor) -> Any:
        fresh = record(model, tokens, iterations, sites=inside, seed=seed, **inputs)
        return fresh if run is None else fresh.with_counted(run.counted)

    if isinstance(source, RunSource):
        random: FeatureSource = RunSource(made(source.tokens), sites, chosen)
    else:
        random = RunsSource(lambda: (made(part) for part in source.tokens.split(256)), sites, chosen)
    return _alike(random, source)


def _alike(random: FeatureSource, source: FeatureSource) -> FeatureSource:
    if random.positions != source.positions or random.batch != source.batch:
        raise LoopscopeError(
            f"random features must be of the same examples and positions, {source.batch} and "
            f"{source.positions}, but are of {random.batch} and {random.positions}."
        )
    return random


class Projection(FeatureSource):
    """Random functions of the input: at each position the sum of a random vector for each token
    read up to there, with random signs and sizes for each position, through max(0, .). Causal,
    unless the task isn't."""

    def __init__(self, tokens: Tensor, positions: int, width: int, seed: int, *, causal: bool = True) -> None:
        self.tokens, self.batch, self.model, self.origin = tokens, len(tokens), None, {}
        self.positions, self.iterations = {ANY: positions}, {ANY: [0]}
        self._causal, self._generator = causal, torch.Generator().manual_seed(seed)
        self._continuous = tokens.dtype.is_floating_point
        length = tokens.shape[1] if not self._continuous or tokens.ndim > 2 else 1
        if self._continuous:
            self._rows = tokens.detach().cpu().reshape(len(tokens), length, -1)
            kinds = self._rows.shape[-1]
        else:
            words, self._rows = tokens.detach().cpu().unique(return_inverse=True)
            self._rows, kinds = self._rows.reshape(len(tokens), length, -1)[..., 0], len(words)
        self._vectors = self._drawn(kinds, width)
        self._turns = self._drawn(length, width)
        self._bias = self._drawn(width)

    def chunks(self, places: Sequence[SiteIteration]) -> Iterator[ExampleChunk]:
        width, length = self._vectors.shape[1], len(self._turns)
        step = max(1, _PIECE // (4 * width * max(length, self.positions[ANY])))
        for first in range(0, self.batch, step):
            rows = self._rows[first : first + step]
            read = rows.float() @ self._vectors if self._continuous else self._vectors[rows]
            read = (read * self._turns).cumsum(1)
            count = torch.arange(1, length + 1).sqrt()[:, None]
            if not self._causal:
                read, count = read[:, -1:].expand_as(read) + self._turns, count[-1:]
            result = torch.relu(read / count + self._bias)
            if length != self.positions[ANY]:
                result = result[:, -1:].expand(-1, self.positions[ANY], -1)
            yield ExampleChunk(first, {place: SiteFeatures(result, None) for place in places})

    def _drawn(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator)


def _width(source: FeatureSource, sites: Sequence[str]) -> int:
    """Of the first site."""
    site = sites[0]
    chunk = next(iter(source.chunks([(site, source.iterations[site][0])])))
    return next(iter(chunk.pieces.values())).values.shape[-1]
