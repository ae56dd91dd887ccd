"""How the input reaches an iteration again."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..common.errors import LoopscopeError, nearest

Kind = Literal["none", "add", "concat"]
"""none: the input enters only by states[0]. add: h + e. concat: W [h ; e], W of shape (width, 2
width), without bias."""


class Injection(nn.Module):
    """Mix the state h with the injected input e: what the loop body reads. Both are (batch,
    position, width).

    `concat` is Huginn's adapter (Geiping et al. 2025, arXiv 2502.05171). It starts at [I | I] with
    a little noise, that is, as plain addition.
    """

    def __init__(self, kind: Kind, width: int) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise LoopscopeError(
                f"injection must name a kind, but is {kind!r}. {nearest(str(kind), get_args(Kind))}"
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
