"""A family of small loops: where each works in place, and what its body is like.

A loop is made of a `Kind` of body and a `Place` where something is written in place. `by_hand` runs
the same loop in plain functions, with edits of its states, and is the truth that recordings are
compared with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

WIDTH, TURNS = 6, 4


@dataclass
class Carry:
    """What the body of `dataclass` takes and returns."""

    cost: float
    h: Tensor


class Body(nn.Module):
    """h -> tanh(linear(h)), in one of the ways in which bodies take and return it, and write."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.linear, self.kind = nn.Linear(WIDTH, WIDTH), kind
        self.register_buffer("memory", torch.zeros(2, 3, WIDTH))

    def map(self, h: Tensor) -> Tensor:
        return torch.tanh(self.linear(h))

    def forward(self, given: Any, **options: Any) -> Any:
        if self.kind == "tuple":
            return torch.zeros(3), self.map(given[0])
        if self.kind == "dict":
            return {"cost": torch.zeros(()), "h": self.map(given["h"])}
        if self.kind == "dataclass":
            return Carry(0.5, self.map(given.h))
        if self.kind == "writes into its input":
            return given.copy_(self.map(given))
        if self.kind == "returns a view of its input":
            given.copy_(self.map(given))
            return given.view(given.shape)
        if self.kind == "spoils its input":
            new = self.map(given)
            given.fill_(7.0)
            return new
        if self.kind == "writes into a buffer of its own":
            return self.memory.copy_(self.map(given))
        return self.map(given)


PACKED: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "tuple": (lambda h: (h, 1), lambda out: out[1]),
    "dict": (lambda h: {"h": h}, lambda out: out["h"]),
    "dataclass": (lambda h: Carry(0.0, h), lambda out: out.h),
}
KINDS = (
    "plain",
    *PACKED,
    "writes into its input",
    "returns a view of its input",
    "spoils its input",
    "writes into a buffer of its own",
)
PLACES = (
    "nowhere",
    "between two calls",
    "between two calls, by .data",
    "between two calls, by numpy",
    "in the first iteration only",
    "after the loop",
    "into one buffer for all",
    "what the body returns is ignored",
)
IN_PLACE = ("writes into its input", "returns a view of its input")
"""Bodies whose caller may ignore what they return."""


class Family(nn.Module):
    """One loop of the family."""

    def __init__(self, kind: str, place: str) -> None:
        super().__init__()
        self.core, self.place = Body(kind), place
        self.pack, self.unpack = PACKED.get(kind, (lambda h: h, lambda out: out))

    def before(self, h: Tensor, t: int) -> None:
        """What is written between two calls."""
        if self.place == "between two calls" or (self.place == "in the first iteration only" and not t):
            h += t + 1
        elif self.place == "between two calls, by .data":
            h.data.add_(t + 1)
        elif self.place == "between two calls, by numpy":
            h.numpy()[:] += t + 1

    @property
    def knows_its_start(self) -> bool:
        """Whether the body's first input is what the loop begins with, so that states[0] may be
        known."""
        return not self.place.startswith("between")

    def forward(self, x: Tensor) -> Tensor:
        h = x.clone()
        for t in range(TURNS):
            self.before(h, t)
            out = self.unpack(self.core(self.pack(h)))
            if self.place == "into one buffer for all":
                h.copy_(out)
            elif self.place != "what the body returns is ignored":
                h = out
        if self.place == "after the loop":
            answer = h * 2
            h.zero_()
            return answer
        return h * 2


Change = Callable[[Tensor], Tensor]


@torch.no_grad()
def by_hand(model: Family, x: Tensor, edits: dict[int, Change] | None = None) -> tuple[list[Tensor], Tensor]:
    """states[0..TURNS] and the answer, without working in place.

    Arguments:
        edits: by k, what becomes of states[k].
    """
    edits = edits or {}
    h, states = x, []
    for k in range(TURNS + 1):
        if not k and model.place == "in the first iteration only":
            h = h + 1  # it comes before all calls, so it belongs to the first state
        h = edits.get(k, lambda value: value)(h)
        states.append(h)
        if k < TURNS:
            h = model.core.map(h + (k + 1) if model.place.startswith("between") else h)
    return states, states[-1] * 2


def family() -> list[Any]:
    """Every loop of the family: pairs of a kind and a place."""
    return [
        (kind, place)
        for kind in KINDS
        for place in PLACES
        if place != "what the body returns is ignored" or kind in IN_PLACE
        if not (kind == "spoils its input" and place == "what the body returns is ignored")
    ]


def build(kind: str, place: str, seed: int = 0) -> Family:
    """A loop with weights from a seed."""
    torch.manual_seed(seed)
    return Family(kind, place).eval()


def batch(seed: int = 1) -> Tensor:
    """Random inputs (batch, position, width)."""
    return torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(seed))
