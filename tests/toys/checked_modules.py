"""The foreign modules that the self-check is tried on, each with how it is wrapped and what it
reads."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import loopscope as ls

from . import foreign_loops as foreign
from . import in_place_loops as in_place
from . import strange_loops as strange
from .family_doubles import OuroForCausalLM
from .looped_text_model import RandomStart


class Case(NamedTuple):
    """A module with its loop body."""

    build: Callable[[], nn.Module]
    body: str | list[str]
    example: Callable[[], Tensor] = foreign.batch
    options: dict[str, Any] = {}
    """Further arguments of `wrap`."""
    training: bool = False


def wrapped(case: Case) -> Any:
    """The module, with weights from a seed, as `wrap` gives it."""
    torch.manual_seed(0)
    return ls.wrap(case.build().train(case.training), body=case.body, **case.options)


def _of(kind: str, place: str) -> Callable[[], nn.Module]:
    return lambda: in_place.build(kind, place)


def image() -> Tensor:
    return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def _vectors() -> Tensor:
    return foreign.batch()[:, 0]


def _tokens() -> Tensor:
    return torch.randint(0, 40, (2, 6), generator=torch.Generator().manual_seed(1))


CASES = {
    "the plain loop": Case(foreign.Loop, "core"),
    "one buffer, overwritten": Case(foreign.InPlace, "core"),
    "writes into its input": Case(_of("writes into its input", "nowhere"), "core", in_place.batch),
    "what the body returns is ignored": Case(
        _of("writes into its input", "what the body returns is ignored"), "core", in_place.batch
    ),
    "writes between two calls": Case(_of("plain", "between two calls, by .data"), "core", in_place.batch),
    "a buffer of the body's": Case(_of("writes into a buffer of its own", "nowhere"), "core", in_place.batch),
    "a tuple": Case(foreign.Tuple, "core"),
    "a dataclass": Case(foreign.Dataclass, "core"),
    "a dictionary": Case(strange.DictOutput, "core"),
    "several carried tensors": Case(strange.Pair, "core", options={"state": ("branch", "residual")}),
    "a cell of two states": Case(strange.Cell, "cell", _vectors, {"state": ("hx.0", "hx.1")}),
    "convolutional": Case(strange.Convolutional, "recall", image),
    "the first iteration differs": Case(strange.FirstDifferent, "core"),
    "two roles": Case(strange.Roles, "network"),
    "segments of an uninitialised carry": Case(
        strange.Segments, "inner", options={"state": ("carry.high", "carry.low")}
    ),
    "leaves the loop early": Case(foreign.Early, "core"),
    "leaves the loop when settled": Case(strange.Settling, "core"),
    "rows leave the batch": Case(strange.Leaving, "core", lambda: foreign.batch(size=4)),
    "checkpointing": Case(foreign.Checkpointed, "core"),
    "reentrant checkpointing": Case(foreign.CheckpointedReentrant, "core"),
    "tied by storage": Case(foreign.Twins, "layers"),
    "two names": Case(foreign.Alias, "core"),
    "two levels": Case(foreign.Nested, ["low", "high"], options={"inner": {"low": "low"}}),
    "calls between": Case(foreign.Around, "core"),
    "calls between, in training": Case(strange.Timed, "core", training=True),
    "a fused layer": Case(foreign.Fused, "layer"),
    "a mask of padding": Case(strange.Masked, "layer"),
    "begins where it ended": Case(strange.Remembering, "core", foreign.batch),
    "a random start, and generate": Case(RandomStart.small, "core", _tokens),
    "a family by its body": Case(OuroForCausalLM, ["model.layers.0", "model.norm"], _tokens),
    "differentiates its own loop": Case(foreign.Learning, "core"),
    "another output every time": Case(strange.Unsteady, "core"),
    "keeps its state elsewhere": Case(strange.Elsewhere, "core"),
    "a body without a state": Case(strange.Stateless, "core"),
}
"""By habit."""
