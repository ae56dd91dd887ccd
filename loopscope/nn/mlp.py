"""The MLP of a block."""

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformer_lens.hook_points import HookPoint

from ..common.errors import LoopscopeError

Activation = Literal["gelu", "relu"]


class MLP(nn.Module):
    """Two linear maps with a nonlinearity between them, at each position. Sites: `hook_pre`,
    `hook_post`.

    A GELU or ReLU; or `gated`, silu(G x) * (U x) without biases (SwiGLU: Shazeer 2020, arXiv
    2002.05202), where `hook_pre` is G x.
    """

    def __init__(
        self, width: int, hidden: int | None = None, gated: bool = False, activation: Activation = "gelu"
    ) -> None:
        super().__init__()
        if activation not in get_args(Activation):
            raise LoopscopeError(
                f"activation must be one of {', '.join(get_args(Activation))}, but is {activation!r}."
            )
        self.activation = F.gelu if activation == "gelu" else F.relu
        hidden = 4 * width if hidden is None else hidden
        self.up, self.down = (
            nn.Linear(*shape, bias=not gated) for shape in ((width, hidden), (hidden, width))
        )
        self.gate = nn.Linear(width, hidden, bias=False) if gated else None
        self.hook_pre, self.hook_post = HookPoint(), HookPoint()

    def forward(self, x: Float[Tensor, "batch position width"]) -> Float[Tensor, "batch position width"]:
        if self.gate is None:
            return self.down(self.hook_post(self.activation(self.hook_pre(self.up(x)))))
        return self.down(self.hook_post(F.silu(self.hook_pre(self.gate(x))) * self.up(x)))
