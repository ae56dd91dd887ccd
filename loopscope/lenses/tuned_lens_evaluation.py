"""Whether a tuned lens improves on the untuned one: on validation examples, and the gain on test
examples."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from .lens_input import LensInput
from .lens_types import Lens
from .translator import KLGain, Translator
from .tuned_lens_data import TEST, VALIDATION, AffineMap, LensData

BOOTSTRAP = 1000
SURE = 1.0
"""Standard errors by which a map must improve on the validation examples to be applied."""

Inputs = Sequence[tuple[LensData, LensInput]]
"""One place at one iteration (or several) of every run."""


def mean_kl(inputs: Inputs, base: Lens, affine: AffineMap | None, part: int) -> float:
    """The mean KL over the positions of one part."""
    with torch.no_grad():
        kl = torch.cat([data.kl(base, one, affine)[data.part == part].cpu() for data, one in inputs])
    return float(kl.nanmean())


def improves(inputs: Inputs, base: Lens, affine: AffineMap) -> bool:
    """Whether a map's gain on the validation examples is larger than its standard error, clustered
    by example."""
    with torch.no_grad():
        gains = [(data, data.kl(base, one, None) - data.kl(base, one, affine)) for data, one in inputs]
    gain = torch.cat([values[data.part == VALIDATION].cpu() for data, values in gains])
    group = torch.cat([data.example[(data.part == VALIDATION).cpu()] for data, _ in gains])
    gain, (_, number) = gain[~gain.isnan()], group[~gain.isnan()].unique(return_inverse=True)
    if len(gain) == 0:
        return False
    mean = gain.mean()
    residual = torch.zeros(int(number.max()) + 1, dtype=gain.dtype).index_add(0, number, gain - mean)
    return float(mean) > SURE * float(residual.square().sum().sqrt()) / len(gain)


def kl_gain(translator: Translator, inputs: Mapping[int, Inputs], base: Lens, seed: int) -> KLGain:
    """KL before and after on the test examples, with a bootstrap interval over examples."""
    rows: list[tuple[float, ...]] = []
    rng = np.random.default_rng(seed)
    for i, k in enumerate(translator.iterations):
        number = 0 if len(translator.a) == 1 else i
        affine = (translator.a[number], translator.b[number]) if bool(translator.active[i]) else None
        before, after, group = _test_kl(inputs[k], base, affine)
        present = ~before.isnan()
        low, high = _interval((before - after)[present].numpy(), group[present].numpy(), rng)
        first, second = float(before[present].mean()), float(after[present].mean())
        rows.append((first, second, first - second, low, high))
    columns = torch.tensor(rows, dtype=torch.float64).T
    return KLGain(translator.iterations, *columns)


def _test_kl(inputs: Inputs, base: Lens, affine: AffineMap | None) -> tuple[Tensor, Tensor, Tensor]:
    """(KL of the untuned lens, KL of the tuned lens, example) of each test position."""
    before, after, example = [], [], []
    with torch.no_grad():
        for data, one in inputs:
            test = data.part == TEST
            before.append(data.kl(base, one, None)[test].cpu())
            after.append(data.kl(base, one, affine)[test].cpu())
            example.append(data.example[test.cpu()])
    return torch.cat(before), torch.cat(after), torch.cat(example)


def _interval(values: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """95 % interval of the mean, by drawing as many examples with replacement."""
    _, number = np.unique(group, return_inverse=True)
    sums, sizes = np.bincount(number, values), np.bincount(number)
    counts = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=BOOTSTRAP)
    means = (counts @ sums) / (counts @ sizes)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))
