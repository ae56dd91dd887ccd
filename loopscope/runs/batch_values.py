"""BatchValues: the values of a site in several batches of examples, as those of one batch."""

from collections.abc import Hashable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..common.lazy_tensors import LazyTensors
from ..core.lazy_values import LazyValues, LoopPlace, form_at
from ..core.states import States


class BatchValues(LazyValues):
    """A site's tensors, with the examples of one batch after those of the other. Of a batch whose
    loop ended before an iteration, the rows are NaN there."""

    def __init__(self, batches: Sequence[States], sizes: Sequence[int]) -> None:
        """
        Arguments:
            batches: the site in each batch, of the same axes, the first of a value `batch`.
            sizes: examples in each.
        """
        self._batches, self._sizes = [site.by_index for site in batches], list(sizes)
        indices = sorted({index for values in self._batches for index in values})
        self._indices = dict.fromkeys(indices)

    def __getitem__(self, index: LoopPlace) -> Tensor:
        return self.rows(index, slice(None))

    def rows(self, index: LoopPlace, rows: slice) -> Tensor:
        start, stop, step = rows.indices(sum(self._sizes))
        if step != 1:
            return self.rows(index, slice(None))[rows]
        parts, begin = [], 0
        for values, size in zip(self._batches, self._sizes, strict=True):
            low, high = max(start - begin, 0), min(stop - begin, size)
            if low < high:
                parts.append(self._part(values, index, size)[low:high])
            begin += size
        if not parts:
            return torch.empty((0, *self.form(index).shape[1:]), dtype=self.form(index).dtype)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _part(self, values: Mapping[LoopPlace, Tensor], index: LoopPlace, size: int) -> Tensor:
        if index in values:
            return values[index]
        form = self.form(index)
        filler = float("nan") if form.is_floating_point() else 0
        return torch.full((size, *form.shape[1:]), filler, dtype=form.dtype)

    def form(self, index: LoopPlace) -> Tensor:
        one = next(form_at(values, index) for values in self._batches if index in values)
        return torch.empty((sum(self._sizes), *one.shape[1:]), dtype=one.dtype, device="meta")

    def identity(self, index: LoopPlace) -> Hashable:
        return id(self), index

    def sources(self) -> Iterator[Tensor | LazyTensors]:
        for values in self._batches:
            yield from values.sources() if isinstance(values, LazyValues) else values.values()

    def present(self) -> dict[LoopPlace, Tensor]:
        """Masks (batch,) of the values that some batches lack, by loop index."""
        result: dict[LoopPlace, Tensor] = {}
        for index in self._indices:
            there = [index in values for values in self._batches]
            if not all(there):
                sizes = torch.tensor(self._sizes)
                result[index] = torch.tensor(there).repeat_interleave(sizes)
        return result

    def __contains__(self, index: object) -> bool:
        return index in self._indices

    def __iter__(self) -> Iterator[LoopPlace]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


def joined_states(batches: Sequence[States], sizes: Sequence[int]) -> States:
    """A site of several batches as one."""
    values = BatchValues(batches, sizes)
    rows = values.present()
    for index in values:
        masks = [site.rows.get(index) for site in batches]
        if any(mask is not None for mask in masks):
            whole = rows.get(index, torch.ones(sum(sizes), dtype=torch.bool)).split(list(sizes))
            pairs = zip(whole, masks, strict=True)
            rows[index] = torch.cat([one if mask is None else one & mask for one, mask in pairs])
    longest = max((site.iteration_range for site in batches), key=len)
    reasons = {k: why for site in batches for k, why in site.reasons.items()}
    return States(batches[0].name, values, batches[0].axes, longest, rows=rows, reasons=reasons)
