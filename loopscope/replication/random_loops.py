"""Random loops: blocks without prelude or coda, as in the study of random initialisation of Blayney
et al. 2026 (arXiv 2604.11791), which several findings are measured on."""

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from .. import models

if TYPE_CHECKING:  # TransformerLens comes with the first model
    from ..nn import LoopedModule

WIDTH, VOCABULARY = 32, 32


def random_loop(
    seed: int,
    layers: int,
    *,
    injection: bool = True,
    gain: float = 0.4,
    position: Literal["rotary", "none"] = "rotary",
) -> "LoopedModule":
    """A pre-norm loop that doesn't receive the iteration index.

    Arguments:
        layers: of the block that is repeated.
        injection: whether the input is mixed into the state at the start of each iteration.
        gain: the weights' standard deviation times the root of the width; the paper doesn't state
            its own.
    """
    model = models.build(
        "universal", vocabulary=VOCABULARY, width=WIDTH, heads=4, layers=(0, layers, 0), norm="pre",
        position=position, step_code="none", injection="concat" if injection else "none", seed=seed,
    ).eval()  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "embed" not in name:
                weight.normal_(0, gain / math.sqrt(WIDTH), generator=generator)
    return model


def random_tokens(seed: int, examples: int, length: int) -> Tensor:
    """Tokens for such a loop, (examples, length)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (examples, length), generator=generator)
