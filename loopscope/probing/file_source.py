"""The file of a run, read piece by piece: no more of it is in memory than a piece.

safetensors maps files into memory, and what was touched of a map counts as the process's memory
while there is room. Here pieces are read into a buffer instead, so that what is used is what is
counted.
"""

import json
import math
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.files import DTYPES, load_header
from ..core.indexing import as_vectors
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
        self.path, header = Path(path), load_header(path, kind="run")
        self.origin, self._places = header["origin"], _places(self.path)
        aliases = header.get("aliases", {})
        self._keys = {name: name for name in self._places} | aliases
        self.tokens = self._whole("tokens") if "tokens" in self._keys else None
        self._axes: dict[str, tuple[str, ...]] = {}
        self._rows: dict[str, dict[tuple[int, ...], Tensor]] = {}
        self._indices: dict[str, list[tuple[int, ...]]] = {}
        self.positions, self.iterations = {}, {}
        for site in sites:
            self._open(site, header, iterations)
        labels = {site: range(*header["sites"][site]["labels"]) for site in sites}
        check_chosen(self.iterations, labels, iterations)
        self.batch = len(self._sample(sites[0]))
        self.model = model if model is not None else _entry(self.origin)

    def chunks(self, places: Sequence[SiteIteration]) -> Iterator[ExampleChunk]:
        size = max(sum(self._bytes(site, k) for site, k in places) // self.batch, 1)
        step = max(1, PIECE // size)
        for first in range(0, self.batch, step):
            last = min(first + step, self.batch)
            yield ExampleChunk(first, {(site, k): self._piece(site, k, first, last) for site, k in places})

    def _open(self, site: str, header: dict[str, Any], iterations: Sequence[int] | None) -> None:
        about = header["sites"].get(site)
        if about is None:
            raise LoopscopeError(
                f"{self.path} must hold the site '{site}' with iterations, but holds "
                f"{list(header['sites'])}. Record it with sites=[{site!r}]."
            )
        prefix = f"site/{site}/"
        keys = [key.removeprefix(prefix) for key in self._keys if key.startswith(prefix)]
        self._indices[site] = sorted(tuple(map(int, key.split(","))) for key in keys)
        self._axes[site] = tuple(about["axes"])
        self._rows[site] = {
            tuple(map(int, key.split(","))): torch.tensor(mask) for key, mask in about.get("rows", {}).items()
        }
        shape = self._sample(site, whole=False)
        body = self._axes[site][len(self._indices[site][0]) :]
        if not body or body[0] != "batch":
            raise LoopscopeError(
                f"a site that is read piece by piece must begin with its examples, but '{site}' has {body}."
            )
        self.positions[site] = dict(zip(body, shape, strict=True)).get("position", 1)
        present = sorted({index[0] for index in self._indices[site]})
        self.iterations[site] = chosen_iterations(present, range(*about["labels"]), iterations)

    def _piece(self, site: str, k: int, first: int, last: int) -> SiteFeatures:
        indices = [index for index in self._indices[site] if index[0] == k]
        values = [self._read(f"site/{site}/{','.join(map(str, index))}", first, last) for index in indices]
        depth = len(indices[0])
        body = self._axes[site][depth:]
        value = torch.stack(values) if depth > 1 else values[0]
        rows = [self._rows[site][index] for index in indices if index in self._rows[site]]
        present = torch.stack(rows).all(0)[first:last] if rows else None
        value = as_vectors(value, (("inner", *body) if depth > 1 else body))
        if not bool((value if present is None else value[present]).isfinite().all()):
            raise LoopscopeError(
                f"the states must be finite, but '{site}' holds NaN or infinity at iteration {k}. Probe "
                f"those before it: iterations=range({k})."
            )
        return SiteFeatures(value, present)

    def _sample(self, site: str, whole: bool = True) -> Any:
        key = self._keys[f"site/{site}/{','.join(map(str, self._indices[site][0]))}"]
        shape = self._places[key][1]
        return range(shape[0]) if whole else shape

    def _bytes(self, site: str, k: int) -> int:
        keys = [f"site/{site}/{','.join(map(str, i))}" for i in self._indices[site] if i[0] == k]
        return sum(
            math.prod(self._places[self._keys[key]][1]) * self._places[self._keys[key]][0].itemsize
            for key in keys
        )

    def _whole(self, key: str) -> Tensor:
        return self._read(key, 0, self._places[self._keys[key]][1][0])

    def _read(self, key: str, first: int, last: int) -> Tensor:
        dtype, shape, offset = self._places[self._keys[key]]
        row = math.prod(shape[1:]) * dtype.itemsize
        buffer = bytearray((last - first) * row)
        with open(self.path, "rb", buffering=0) as file:
            file.seek(offset + first * row)
            view, done = memoryview(buffer), 0
            while done < len(buffer):
                read = file.readinto(view[done:])
                if not read:
                    raise LoopscopeError(
                        f"{self.path} ends before '{key}' does: it is truncated. Take another copy."
                    )
                done += read
        if not buffer:
            return torch.empty((last - first, *shape[1:]), dtype=dtype)
        return torch.frombuffer(buffer, dtype=dtype).view(last - first, *shape[1:])


def _places(path: Path) -> dict[str, tuple[torch.dtype, tuple[int, ...], int]]:
    """Each tensor's type, shape, and where in the file it begins. `load_header` has looked at the
    file before."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return {
        name: (DTYPES[one["dtype"]], tuple(one["shape"]), 8 + length + one["data_offsets"][0])
        for name, one in header.items()
        if one["dtype"] in DTYPES
    }


def _entry(origin: Any) -> Any:
    """The zoo's entry that made the run, for its task and its untrained likeness."""
    from .. import models

    return models.load(origin["entry"]) if origin.get("entry") in models.entries() else None
