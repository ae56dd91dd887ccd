"""The feed-forward half of a block."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformer_lens.hook_points import HookPoint


class MLP(nn.Module):
    """Two linear maps with a GELU between them, position by position. Sites: `hook_pre`, `hook_post`."""

    def __init__(self, width: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = 4 * width if hidden is None else hidden
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.hook_pre, self.hook_post = HookPoint(), HookPoint()

    def forward(self, x: Float[Tensor, "batch position width"]) -> Float[Tensor, "batch position width"]:
        return self.down(self.hook_post(F.gelu(self.hook_pre(self.up(x)))))
