"""What a patch writes: the donor's value, the mean over the batch, zero, or noise of a fixed norm.

A source is a function of a place, an iteration and the value that stands there; `source` makes one
from what a user names.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..common.rng import mixed
from ..runs.location import Place, value_at
from ..runs.run import Run

Source = Callable[[Place, int, Tensor], Tensor]
"""(place, iteration, value) -> what stands there instead, of the same shape; what of it is written,
a cell says."""

WORDS = ("mean", "zero")


@dataclass(frozen=True)
class Noise:
    """A random direction of a fixed length, added at each place of its own. Made by `noise`."""

    norm: float
    seed: int

    def __call__(self, place: Place, iteration: int, value: Tensor) -> Tensor:
        # a draw of its own for each place and iteration, the same whichever cells are asked for and
        # in whatever order
        stream = zlib.crc32(f"{place} {iteration}".encode())
        generator = torch.Generator().manual_seed(mixed(self.seed, stream))
        drawn = torch.randn(value.shape, generator=generator).to(value.device, torch.float32)
        return value + (self.norm * drawn / drawn.norm(dim=-1, keepdim=True)).to(value.dtype)

    def __str__(self) -> str:
        return f"noise of norm {self.norm:g}"


def noise(norm: float, seed: int = 0) -> Noise:
    """Noise of a fixed norm, for `ls.effects(run, ls.noise(1.0))`.

    Arguments:
        norm: Euclidean length of what is added at each position (and head), in the site's own
            units; `run.states[k].norm(dim=-1)` tells what is large.
        seed: of the directions, which differ between examples, positions, sites and iterations.
    """
    if isinstance(norm, bool) or not isinstance(norm, int | float) or not 0 < float(norm) < float("inf"):
        raise LoopscopeError(
            f"noise needs a norm above 0, but got {norm!r}. Try the median of run.states[k].norm(dim=-1)."
        )
    return Noise(float(norm), seed)


def source(run: Run, given: Any) -> tuple[Source, str]:
    """A source from a donor run, a word, noise or a function, and what it is called."""
    if isinstance(given, Run):
        return _donor(run, given), "the donor run"
    if isinstance(given, Noise):
        return given, str(given)
    if given == "zero":
        return lambda place, iteration, value: torch.zeros_like(value), "zero"
    if given == "mean":
        if len(run.states[run.states.iterations[0]]) < 2:
            raise LoopscopeError(
                "a mean over the batch needs two examples or more, but there is one. Record a larger batch."
            )
        return lambda place, iteration, value: value.mean(0, keepdim=True).expand_as(
            value
        ), "the mean over the batch"
    if callable(given):
        return cast(Source, given), getattr(given, "__name__", "a function")
    hint = (
        nearest(given, WORDS)
        if isinstance(given, str)
        else "Pass a run, 'mean', 'zero', ls.noise(...) or a function."
    )
    raise LoopscopeError(
        f"what is written must be a donor run, 'mean', 'zero', noise or a function, but is {given!r}. {hint}"
    )


def _donor(run: Run, donor: Run) -> Source:
    def value(place: Place, iteration: int, own: Tensor) -> Tensor:
        given = value_at(donor, place, iteration)
        if given is None:
            raise LoopscopeError(
                f"the donor must have '{place}' at iteration {iteration}, but has not. Record it with as "
                "many iterations as the run."
            )
        if given.shape[1:] != own.shape[1:] or len(given) not in (1, len(own)):
            raise LoopscopeError(
                f"the donor's '{place}' must have the run's shape {tuple(own.shape)}, or a batch of one, "
                f"but has {tuple(given.shape)}. Record a donor of the same batch and length."
            )
        return given.to(own).expand_as(own)

    return value
