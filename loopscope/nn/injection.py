"""Injection of the input into every iteration."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..common.errors import LoopscopeError, nearest

InjectionKind = Literal["none", "add", "concat"]
"""none: the input enters only through states[0]. add: h + e. concat: W [h ; e], W of shape (width,
2 width), without bias."""


class Injection(nn.Module):
    """The input of the loop body from the state h and the injected input e, both (batch, position,
    width).

    `concat` is Huginn's adapter (Geiping et al. 2025, arXiv 2502.05171). It is initialised as [I |
    I] plus small noise, close to addition.
    """

    def __init__(self, kind: InjectionKind, width: int) -> None:
        super().__init__()
        if kind not in get_args(InjectionKind):
            raise LoopscopeError(
                f"injection must be one of its options, but is {kind!r}. "
                f"{nearest(str(kind), get_args(InjectionKind))}"
            )
        self.kind = kind
        if kind == "concat":
            self.mix = nn.Linear(2 * width, width, bias=False)
            with torch.no_grad():
                self.mix.weight.mul_(0.1).add_(torch.cat([torch.eye(width), torch.eye(width)], dim=1))

    def forward(
        self, h: Float[Tensor, "batch position width"], e: Float[Tensor, "batch position width"]
    ) -> Float[Tensor, "batch position width"]:
        if self.kind == "none":
            return h
        if self.kind == "add":
            return h + e
        return self.mix(torch.cat([h, e], dim=-1))
