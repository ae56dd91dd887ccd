"""Multi-head attention with a site at every intermediate value.

The pattern is computed explicitly, not by a fused kernel. So recording it can't change the output,
and forward-mode derivatives exist, which PyTorch's fused attention lacks on the CPU.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from ..common.errors import LoopscopeError
from .position import Positions, rotate


class Attention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017, arXiv 1706.03762) with the hook names of
    TransformerLens.

    Sites: `hook_q`, `hook_k`, `hook_v`, `hook_z` (batch, position, head, width of a head);
    `hook_attn_scores` and `hook_pattern` (batch, head, position, key), the pattern's rows sum to
    one.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise LoopscopeError(f"width must be a multiple of heads, but {width} is not one of {heads}.")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.hook_q, self.hook_k, self.hook_v = HookPoint(), HookPoint(), HookPoint()
        self.hook_attn_scores, self.hook_pattern, self.hook_z = HookPoint(), HookPoint(), HookPoint()

    def forward(
        self, x: Float[Tensor, "batch position width"], positions: Positions
    ) -> Float[Tensor, "batch position width"]:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        if positions.cosine is not None and positions.sine is not None:
            q, k = rotate(q, positions.cosine, positions.sine), rotate(k, positions.cosine, positions.sine)
        q, k, v = self.hook_q(q), self.hook_k(k), self.hook_v(v)
        scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / math.sqrt(q.shape[-1])
        if positions.mask is not None:
            scores = scores.masked_fill(~positions.mask, float("-inf"))
        pattern = self.hook_pattern(torch.softmax(self.hook_attn_scores(scores), dim=-1))
        z = self.hook_z((pattern @ v.transpose(1, 2)).transpose(1, 2))
        return self.out(z.flatten(2))
