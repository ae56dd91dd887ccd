"""The kinds of lens: each turns the vectors at a place into logits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..runs.run import Run
from .places import Sight, shown


class Lens(Protocol):
    """What a lens offers."""

    @property
    def name(self) -> str: ...
    @property
    def exact(self) -> bool:
        """Whether it must give the model's own logits bit for bit, where the model is ours."""
        ...

    def logits(self, run: Run, sight: Sight) -> Tensor:
        """(batch, position, vocab)"""
        ...


@dataclass(frozen=True)
class Coda:
    """The model's whole read-out: coda blocks if it has any, final norm, unembedding."""

    name: str = "coda"
    exact: bool = True

    def logits(self, run: Run, sight: Sight) -> Tensor:
        state = sight.state if sight.plain else shown(run, sight.state, sight.h)
        return run.reader.logits(state, grad=sight.h.requires_grad)


@dataclass(frozen=True)
class Logit:
    """The final norm and the unembedding alone (nostalgebraist 2020): coda blocks are left out."""

    name: str = "logit"
    exact: bool = True

    def logits(self, run: Run, sight: Sight) -> Tensor:
        model = run.reader.model
        read = getattr(model, "logits_of", None)
        if read is None:
            raise LoopscopeError(
                f"the logit lens needs a final norm and an unembedding, but {type(model).__name__} doesn't "
                "say what these are. "
                "Give it a method logits_of(h, context), or use the model's whole read-out: ls.lens(run, "
                '"coda").'
            )
        with torch.set_grad_enabled(run.reader.grad or sight.h.requires_grad), run.reader.edited():
            return read(sight.h, run.reader.context)


@dataclass(frozen=True)
class Own:
    """A function of the user's own: vectors (batch, position, width) to logits (batch, position,
    vocab)."""

    function: Callable[[Tensor], Any]
    exact: bool = False

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def logits(self, run: Run, sight: Sight) -> Tensor:
        with torch.no_grad():
            told = self.function(sight.h)
        if not isinstance(told, Tensor) or told.ndim < 2 or told.shape[0] != sight.h.shape[0]:
            received = tuple(told.shape) if isinstance(told, Tensor) else type(told).__name__
            raise LoopscopeError(
                f"a lens must turn vectors {tuple(sight.h.shape)} into logits (batch, position, vocab), but "
                f"{self.name} gave {received}. Return a tensor of logits."
            )
        return told


KINDS = {"coda": Coda(), "logit": Logit()}


def kind_of(wanted: Any) -> Lens:
    """The lens that was asked for: a name, a tuned lens, or a function."""
    if isinstance(wanted, str):
        if wanted not in KINDS:
            raise LoopscopeError(
                f'a lens is "coda", "logit", a TunedLens or a function, but got {wanted!r}. '
                f"{nearest(wanted, KINDS)}"
            )
        return KINDS[wanted]
    if hasattr(wanted, "logits") and hasattr(wanted, "name"):
        return wanted
    if callable(wanted):
        return Own(wanted)
    raise LoopscopeError(
        f'a lens is "coda", "logit", a TunedLens or a function of vectors, but got a {type(wanted).__name__}.'
    )
