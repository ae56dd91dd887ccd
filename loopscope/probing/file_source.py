"""The file of a run, read piece by piece: no more of it is in memory than a piece.

safetensors maps files into memory, and what was touched of a map counts as the process's memory
while there is room. Here pieces are read into a buffer instead, so that what is used is what is
counted.
"""

import math
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.file_layout import DTYPES, damaged
from ..common.files import load_layout
from ..core.indexing import as_vectors
from ..runs.run_header import RunHeader, StoredSite, checked_header
from ..runs.run_mask import with_more_positions
from .sources import ExampleChunk, FeatureSource, SiteFeatures, SiteIteration, check_chosen, chosen_iterations

PIECE = 8_000_000
"""Bytes that are read at once."""


class FileSource(FeatureSource):
    """What `run.save(path)` wrote."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        sites: Sequence[str],
        iterations: Sequence[int] | None = None,
        model: Any = None,
    ) -> None:
        self.path, self._layout = Path(path), load_layout(path, kind="run")
        header = checked_header(str(path), self._layout.header, self._layout.entries.keys())
        self.origin = header.origin
        self.tokens = self._tokens(header)
        self._axes: dict[str, tuple[str, ...]] = {}
        self._rows: dict[str, dict[tuple[int, ...], Tensor]] = {}
        self._names: dict[str, dict[tuple[int, ...], str]] = {}
        self.positions, self.iterations = {}, {}
        for site in sites:
            self._open(site, header, iterations)
        labels = {site: header.sites[site].iteration_range for site in sites}
        check_chosen(self.iterations, labels, iterations)
        self.batch = self._shape(self._first(sites[0]))[0]
        mask = None if header.counted is None else self._whole(header.counted.get("mask"))
        if mask is not None:
            self.mask = with_more_positions(mask, self.positions[sites[0]])
        self.model = model if model is not None else _entry(self.origin)

    def chunks(self, places: Sequence[SiteIteration]) -> Iterator[ExampleChunk]:
        size = max(sum(self._bytes(site, k) for site, k in places) // self.batch, 1)
        step = max(1, PIECE // size)
        for first in range(0, self.batch, step):
            last = min(first + step, self.batch)
            yield ExampleChunk(first, {(site, k): self._piece(site, k, first, last) for site, k in places})

    def _open(self, site: str, header: RunHeader, iterations: Sequence[int] | None) -> None:
        about = header.sites.get(site)
        if about is None or about.axes is None or not about.values:
            raise LoopscopeError(
                f"{self.path} must hold the site '{site}' with iterations, but holds "
                f"{list(header.sites)}. Record it with sites=[{site!r}]."
            )
        self._names[site], self._axes[site] = about.indices, tuple(about.axes)
        self._rows[site] = {index: torch.tensor(mask) for index, mask in about.masks.items()}
        shape = self._checked_shape(site, about)
        body = self._axes[site][len(next(iter(about.indices))) :]
        if not body or body[0] != "batch":
            raise LoopscopeError(
                f"a site that is read piece by piece must begin with its examples, but '{site}' has {body}."
            )
        self.positions[site] = dict(zip(body, shape, strict=True)).get("position", 1)
        present = sorted({index[0] for index in about.indices})
        self.iterations[site] = chosen_iterations(present, about.iteration_range, iterations)
        for index, name in about.indices.items():
            if index[0] in self.iterations[site]:
                self._check(name)

    def _checked_shape(self, site: str, about: StoredSite) -> tuple[int, ...]:
        """The shape of a site's values, which must be the same at every iteration."""
        shapes = {self._shape(name) for name in about.indices.values()}
        (shape, *others) = shapes
        depth = len(next(iter(about.indices)))
        if others or depth + len(shape) != len(self._axes[site]) or (shape and shape[0] == 0):
            raise LoopscopeError(
                f"{self.path} must hold values of one shape for every iteration of '{site}', of the axes "
                f"{self._axes[site]}, but holds {sorted(shapes)}. Load it with ls.load_run."
            )
        return shape

    def _check(self, name: str) -> None:
        """Compare a tensor with its checksum, piece by piece."""
        if self._layout.tensors is None:
            return
        start, end = self._layout.entries[name].data_offsets
        checksum = 0
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self._layout.start + start)
            while start < end:
                piece = file.read(min(PIECE, end - start))
                if not piece:
                    break
                checksum, start = zlib.crc32(piece, checksum), start + len(piece)
        if f"{checksum:08x}" != self._layout.tensors[name].checksum:
            raise damaged(self.path, f"the numbers of '{name}' have changed")

    def _piece(self, site: str, k: int, first: int, last: int) -> SiteFeatures:
        indices = [index for index in self._names[site] if index[0] == k]
        values = [self._read(self._names[site][index], first, last) for index in indices]
        depth = len(indices[0])
        body = self._axes[site][depth:]
        value = torch.stack(values) if depth > 1 else values[0]
        rows = [self._rows[site][index] for index in indices if index in self._rows[site]]
        present = torch.stack(rows).all(0)[first:last] if rows else None
        value = as_vectors(value, (("inner", *body) if depth > 1 else body))
        if not bool(self._that_count(value, present, first, last).isfinite().all()):
            raise LoopscopeError(
                f"the states must be finite, but '{site}' holds NaN or infinity at iteration {k}. Probe "
                f"those before it: iterations=range({k})."
            )
        return SiteFeatures(value, present)

    def _that_count(self, value: Tensor, present: Tensor | None, first: int, last: int) -> Tensor:
        """The vectors of rows that are in the loop, at positions that count."""
        mask = torch.ones(value.shape[:2], dtype=torch.bool) if self.mask is None else self.mask[first:last]
        mask = with_more_positions(mask, value.shape[1])
        return value[mask if present is None else mask & present[:, None]]

    def _tokens(self, header: RunHeader) -> Tensor | None:
        """The run's tokens, if they are a tensor."""
        return self._whole(header.tokens.get("tensor") if isinstance(header.tokens, dict) else None)

    def _whole(self, name: Any) -> Tensor | None:
        """A tensor of the file with one row or more; None if it has none of this name."""
        if not isinstance(name, str) or name not in self._layout.entries or not self._shape(name):
            return None
        self._check(name)
        return self._read(name, 0, self._shape(name)[0])

    def _first(self, site: str) -> str:
        return next(iter(self._names[site].values()))

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._layout.shapes[name]

    def _dtype(self, name: str) -> torch.dtype:
        dtype = self._layout.entries[name].dtype
        if (self._layout.tensors and self._layout.tensors[name].view) or dtype not in DTYPES:
            raise LoopscopeError(
                f"{self.path} must hold numbers of the types {', '.join(DTYPES)} to be read piece by piece, "
                f"but '{name}' is of another. Load the run with ls.load_run."
            )
        return DTYPES[dtype]

    def _bytes(self, site: str, k: int) -> int:
        names = [name for index, name in self._names[site].items() if index[0] == k]
        return sum(math.prod(self._shape(name)) * self._dtype(name).itemsize for name in names)

    def _read(self, name: str, first: int, last: int) -> Tensor:
        dtype, shape = self._dtype(name), self._shape(name)
        row = math.prod(shape[1:]) * dtype.itemsize
        buffer = bytearray((last - first) * row)
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self._layout.start + self._layout.entries[name].data_offsets[0] + first * row)
            view, done = memoryview(buffer), 0
            while done < len(buffer):
                read = file.readinto(view[done:])
                if not read:
                    raise LoopscopeError(
                        f"{self.path} ends before '{name}' does: it is truncated. Take another copy."
                    )
                done += read
        if not buffer:
            return torch.empty((last - first, *shape[1:]), dtype=dtype)
        return torch.frombuffer(buffer, dtype=dtype).view(last - first, *shape[1:])


def _entry(origin: Any) -> Any:
    """The zoo's entry that made the run, for its task and its untrained likeness."""
    from .. import models

    return models.load(origin["entry"]) if origin.get("entry") in models.entries() else None
