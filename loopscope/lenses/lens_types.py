"""The kinds of lens: each turns the vectors of a place into logits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..runs.run import Run
from .lens_input import LensInput, with_vectors


class Lens(Protocol):
    """The interface of a lens."""

    @property
    def name(self) -> str:
        """What it is called in results."""
        ...

    @property
    def exact(self) -> bool:
        """Whether it must give the model's own logits bit for bit, for a model of ours."""
        ...

    def logits(self, run: Run, inputs: LensInput) -> Float[Tensor, "batch position vocab"]:
        """The logits of the vectors of a place."""
        ...


@dataclass(frozen=True)
class CodaLens:
    """The model's whole read-out: coda blocks if it has any, final norm, unembedding."""

    name: str = "coda"
    exact: bool = True

    def logits(self, run: Run, inputs: LensInput) -> Float[Tensor, "batch position vocab"]:
        state = inputs.state if inputs.is_state else with_vectors(run, inputs.state, inputs.h)
        return run.reader.logits(state, grad=inputs.h.requires_grad)


@dataclass(frozen=True)
class LogitLens:
    """Only the final norm and the unembedding, without coda blocks (nostalgebraist 2020)."""

    name: str = "logit"
    exact: bool = True

    def logits(self, run: Run, inputs: LensInput) -> Float[Tensor, "batch position vocab"]:
        model = run.reader.model
        read = getattr(model, "logits_of", None)
        if read is None:
            raise LoopscopeError(
                f"the logit lens needs a final norm and an unembedding, but {type(model).__name__} doesn't "
                "say what these are. Give it a method logits_of(h, context), or use the model's whole "
                'read-out: ls.lens(run, "coda").'
            )
        grad = run.reader.grad or inputs.h.requires_grad
        with run.reader.as_recorded(), torch.set_grad_enabled(grad), run.reader.edited():
            return read(inputs.h, run.reader.context)


@dataclass(frozen=True)
class FunctionLens:
    """A user's function: vectors (batch, position, width) to logits (batch, position, vocab)."""

    function: Callable[[Tensor], Any]
    exact: bool = False

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def logits(self, run: Run, inputs: LensInput) -> Float[Tensor, "batch position vocab"]:
        with torch.no_grad():
            logits = self.function(inputs.h)
        if not isinstance(logits, Tensor) or logits.ndim < 2 or logits.shape[0] != inputs.h.shape[0]:
            received = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise LoopscopeError(
                f"a lens must turn vectors {tuple(inputs.h.shape)} into logits (batch, position, vocab), but "
                f"{self.name} gave {received}. Return a tensor of logits."
            )
        return logits


UNTRAINED = {"coda": CodaLens(), "logit": LogitLens()}
"""The lenses that need no training, by name."""


def lens_of(kind: Any) -> Lens:
    """The lens of a name or function; a lens is returned as it is.

    Raises:
        LoopscopeError: an unknown name, or another kind of value.
    """
    if isinstance(kind, str):
        if kind not in UNTRAINED:
            raise LoopscopeError(
                f'a lens is "coda", "logit", a TunedLens or a function, but got {kind!r}. '
                f"{nearest(kind, UNTRAINED)}"
            )
        return UNTRAINED[kind]
    if hasattr(kind, "logits") and hasattr(kind, "name"):
        return kind
    if callable(kind):
        return FunctionLens(kind)
    raise LoopscopeError(
        f'a lens is "coda", "logit", a TunedLens or a function of vectors, but got a {type(kind).__name__}.'
    )


def logits_at(lens: Lens, run: Run, inputs: LensInput) -> Float[Tensor, "batch position vocab"]:
    """The logits that a lens gives at a place; a state without positions has one position."""
    logits = lens.logits(run, inputs)
    return logits[:, None] if logits.ndim == 2 and inputs.h.ndim == 2 else logits
