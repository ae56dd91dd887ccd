"""A transformer block with its norms at any of the usual places."""

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from ..common.errors import LoopscopeError, nearest
from .attention import Attention
from .mlp import MLP, Activation
from .position import Positions

Norm = Literal["pre", "post", "branch", "stream", "none"]
"""Where a sub-layer F is normalised (N = RMSNorm with gain, Zhang & Sennrich 2019, arXiv
1910.07467):

pre      x + F(N(x))          the residual stream is never normalised and may grow without bound
post     N(x + F(x))          as in the first transformers, HRM and TRM
branch   x + N(F(N(x)))       norms before and after the branch, as in Ouro
stream   N(x + F(N(x)))       norms before the branch and on the residual stream, as in Huginn
none     x + F(x)             no norm, as in studies of grokking
"""


class Block(nn.Module):
    """Attention, then an MLP: two residual sub-layers with their norms.

    Sites: `hook_resid_pre`, `hook_attn_out`, `hook_resid_mid`, `hook_mlp_out`, `hook_resid_post`,
    all (batch, position, width). `hook_attn_out` and `hook_mlp_out` are what a sub-layer adds to
    the residual stream.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        norm: Norm = "pre",
        hidden: int | None = None,
        gain: bool = True,
        gated: bool = False,
        activation: Activation = "gelu",
    ) -> None:
        """
        Arguments:
            gain: whether norms have a learned scale.
            hidden, gated, activation: of the MLP.
        """
        super().__init__()
        if norm not in get_args(Norm):
            raise LoopscopeError(
                f"norm must name a placement, but is {norm!r}. {nearest(str(norm), get_args(Norm))}"
            )
        self.norm = norm
        self.attn, self.mlp = Attention(width, heads), MLP(width, hidden, gated, activation)
        before = norm not in ("post", "none")
        after = norm not in ("pre", "none")
        self.norm_1 = nn.RMSNorm(width, elementwise_affine=gain) if before else nn.Identity()
        self.norm_2 = nn.RMSNorm(width, elementwise_affine=gain) if after else nn.Identity()
        self.norm_3 = nn.RMSNorm(width, elementwise_affine=gain) if before else nn.Identity()
        self.norm_4 = nn.RMSNorm(width, elementwise_affine=gain) if after else nn.Identity()
        self.hook_resid_pre, self.hook_resid_mid, self.hook_resid_post = HookPoint(), HookPoint(), HookPoint()
        self.hook_attn_out, self.hook_mlp_out = HookPoint(), HookPoint()

    def forward(
        self, x: Float[Tensor, "batch position width"], positions: Positions
    ) -> Float[Tensor, "batch position width"]:
        x = self.hook_resid_pre(x)
        branch = self.attn(self.norm_1(x), positions)
        x = self.hook_resid_mid(self._add(x, branch, self.norm_2, self.hook_attn_out))
        branch = self.mlp(self.norm_3(x))
        return self.hook_resid_post(self._add(x, branch, self.norm_4, self.hook_mlp_out))

    def _add(self, x: Tensor, branch: Tensor, after: nn.Module, hook: HookPoint) -> Tensor:
        if self.norm == "branch":
            return x + hook(after(branch))
        return after(x + hook(branch))
