from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.errors import LoopscopeError

PLAIN = (
    "kind",
    "sites",
    "iterations",
    "positions",
    "classes",
    "groups",
    "folds",
    "seed",
    "features",
    "notes",
)
"""What JSON says of probes besides their scores."""


@dataclass(frozen=True)
class Probe:
    """One probe, trained on all examples."""

    weight: Float[Tensor, "width column"]
    bias: Float[Tensor, " column"]
    classes: tuple[Any, ...]
    """What the columns stand for; empty for numbers."""

    def scores(self, states: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes column"]:
        """What the probe gives each class, or the number that it reads."""
        if states.shape[-1] != len(self.weight):
            raise LoopscopeError(
                f"this probe reads states of width {len(self.weight)}, but got {tuple(states.shape)}."
            )
        return states.double() @ self.weight.to(states.device) + self.bias.to(states.device)

    def predict(self, states: Float[Tensor, "*axes width"]) -> Tensor:
        """(*axes): the labels as they were given, or numbers; of words their numbers in
        `classes`."""
        scores = self.scores(states)
        if not self.classes:
            return scores[..., 0]
        best = scores.argmax(-1)
        if any(isinstance(one, str) for one in self.classes):
            return best
        return torch.tensor(self.classes, device=best.device)[best]


def _index(names: Sequence[Any], one: Any, what: str) -> int:
    if what == "position" and isinstance(one, int) and one < 0:
        one += int(names[-1]) + 1 if isinstance(names[-1], int) else 0
    if one not in names:
        raise LoopscopeError(f"there is no probe at {what} {one!r}. There are: {', '.join(map(str, names))}.")
    return names.index(one)
