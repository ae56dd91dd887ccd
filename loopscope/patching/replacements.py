"""Replacement values of a patch: the donor's value, the mean over the batch, zero, or noise of a
fixed norm."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from ..common.arguments import Positive, Seed
from ..common.errors import LoopscopeError, nearest
from ..common.guard import guarded
from ..common.rng import mixed
from ..core.masked import masked_mean
from ..runs.location import Place, value_at
from ..runs.run import Run
from ..runs.run_mask import mask_of

Replacement = Callable[[Place, int, Tensor], Tensor]
"""(place, iteration, value) -> the replacement, of the value's shape. A cell says which of its
positions and heads are used."""

WORDS = ("mean", "zero")


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of a fixed norm, drawn independently at each place, iteration and position.
    Made by `noise`."""

    norm: float
    seed: int

    def __call__(self, place: Place, iteration: int, value: Tensor) -> Tensor:
        # one draw for each place and iteration, independent of which cells are patched and in which
        # order
        stream = zlib.crc32(f"{place} {iteration}".encode())
        generator = torch.Generator().manual_seed(mixed(self.seed, stream))
        drawn = torch.randn(value.shape, generator=generator).to(value.device, torch.float32)
        return value + (self.norm * drawn / drawn.norm(dim=-1, keepdim=True)).to(value.dtype)

    def __str__(self) -> str:
        return f"noise of norm {self.norm:g}"


@guarded
def noise(norm: Positive, seed: Seed = 0) -> Noise:
    """Noise of a fixed norm, as the replacement in `effects`.

    >>> size = float(run.states[4].norm(dim=-1).median())
    >>> ls.effects(run, ls.noise(0.1 * size), metric="kl")

    Arguments:
        norm: Euclidean norm of the noise that is added at each position (and head), in the site's
            units; compare `run.states[k].norm(dim=-1)`.
        seed: of the directions, which differ between examples, positions, sites and iterations.

    Raises:
        LoopscopeError: the norm is no positive number.
    """
    if isinstance(norm, bool) or not isinstance(norm, int | float) or not 0 < float(norm) < float("inf"):
        raise LoopscopeError(
            f"noise needs a norm above 0, but got {norm!r}. Try the median of run.states[k].norm(dim=-1)."
        )
    return Noise(float(norm), seed)


def replacement_for(run: Run, value: Any) -> tuple[Replacement, str]:
    """The replacement function of a donor run, a word, noise or a function, and its description.

    Raises:
        LoopscopeError: another kind of value, or a mean over one example.
    """
    if isinstance(value, Run):
        return _donor(run, value), "the donor run"
    if isinstance(value, Noise):
        return value, str(value)
    if value == "zero":
        return _zero, "zero"
    if value == "mean":
        if len(run.states[run.states.iterations[0]]) < 2:
            raise LoopscopeError(
                "a mean over the batch needs two examples or more, but there is one. Record a larger batch."
            )
        return _batch_mean(run), "the mean over the batch"
    if callable(value):
        return _on_a_copy(cast(Replacement, value)), getattr(value, "__name__", "a function")
    hint = (
        nearest(value, WORDS)
        if isinstance(value, str)
        else "Pass a run, 'mean', 'zero', ls.noise(...) or a function."
    )
    raise LoopscopeError(
        f"a replacement must be a donor run, 'mean', 'zero', noise or a function, but is {value!r}. {hint}"
    )


def _on_a_copy(function: Replacement) -> Replacement:
    """The function of a user, which may write into the value that it receives: the run's own."""

    def replacement(place: Place, iteration: int, value: Tensor) -> Tensor:
        return function(place, iteration, value.clone())

    return replacement


def _zero(place: Place, iteration: int, value: Tensor) -> Tensor:
    return torch.zeros_like(value)


def _batch_mean(run: Run) -> Replacement:
    """The mean over the examples in which the position counts."""

    def mean(place: Place, iteration: int, value: Tensor) -> Tensor:
        position = place.axis("position")
        if run.counted.everything or position is None or len(value) != len(run.mask):
            return value.mean(0, keepdim=True).expand_as(value)
        mask = mask_of(run, len(value), value.shape[position])
        mask = mask.reshape([n if i in (0, position) else 1 for i, n in enumerate(value.shape)])
        return masked_mean(value, mask.to(value.device).expand_as(value), 0)[None].expand_as(value)

    return mean


def _donor(run: Run, donor: Run) -> Replacement:
    def donor_value(place: Place, iteration: int, value: Tensor) -> Tensor:
        result = value_at(donor, place, iteration)
        if result is None:
            raise LoopscopeError(
                f"the donor must have '{place}' at iteration {iteration}, but has not. Record it with as "
                "many iterations as the run."
            )
        if result.shape[1:] != value.shape[1:] or len(result) not in (1, len(value)):
            raise LoopscopeError(
                f"the donor's '{place}' must have the run's shape {tuple(value.shape)}, or a batch of one, "
                f"but has {tuple(result.shape)}. Record a donor of the same batch and length."
            )
        return result.to(value).expand_as(value)

    return donor_value
