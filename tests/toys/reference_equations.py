"""A transformer block's equations once more, in plain tensors and from a model's weights: what
forward passes are held to."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def rms(x: Tensor, norm: Any = None) -> Tensor:
    """RMSNorm with `norm`'s gain; x itself for nn.Identity."""
    if isinstance(norm, nn.Identity):
        return x
    unit = x / (x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).sqrt()
    return unit if norm is None or norm.weight is None else unit * norm.weight


def attend(attn: Any, x: Tensor, base: float = 10_000.0) -> Tensor:
    """Causal attention with rotary angles, head by head and query by query."""
    batch, n, width = x.shape
    heads, half = attn.heads, width // attn.heads // 2
    q, k, v = (x @ w.T for w in attn.qkv.weight.chunk(3))
    rates = base ** (-torch.arange(half, dtype=x.dtype) / half)
    angles = torch.arange(n, dtype=x.dtype)[:, None] * rates
    out = torch.zeros_like(x)
    for head in range(heads):
        own = slice(head * 2 * half, (head + 1) * 2 * half)
        # a pair (a, b) as the complex number a + ib, turned by its position's angle
        turned = [torch.complex(z[..., own][..., :half], z[..., own][..., half:]) for z in (q, k)]
        turned = [z * torch.polar(torch.ones_like(angles), angles) for z in turned]
        scores = (turned[0][:, :, None] * turned[1][:, None].conj()).real.sum(-1) / math.sqrt(2 * half)
        for i in range(n):
            weights = torch.softmax(scores[:, i, : i + 1], dim=-1)
            out[:, i, own] = (weights[..., None] * v[:, : i + 1, own]).sum(1)
    return out @ attn.out.weight.T


def feed(mlp: Any, x: Tensor) -> Tensor:
    """A plain MLP with a GELU, or a gated one with a SiLU."""
    if mlp.gate is None:
        return F.gelu(x @ mlp.up.weight.T + mlp.up.bias) @ mlp.down.weight.T + mlp.down.bias
    return (F.silu(x @ mlp.gate.weight.T) * (x @ mlp.up.weight.T)) @ mlp.down.weight.T


def stream(block: Any, x: Tensor, base: float = 10_000.0) -> Tensor:
    """A block with its norms on the stream: N(x + F(N(x))) twice."""
    x = rms(x + attend(block.attn, rms(x, block.norm_1), base), block.norm_2)
    return rms(x + feed(block.mlp, rms(x, block.norm_3)), block.norm_4)


def branch(block: Any, x: Tensor, base: float = 10_000.0) -> Tensor:
    """A block with norms before and after each branch: x + N(F(N(x))) twice."""
    x = x + rms(attend(block.attn, rms(x, block.norm_1), base), block.norm_2)
    return x + rms(feed(block.mlp, rms(x, block.norm_3)), block.norm_4)


def pre(block: Any, x: Tensor, base: float = 10_000.0) -> Tensor:
    """A block with a norm before each sub-layer: x + F(N(x)) twice."""
    x = x + attend(block.attn, rms(x, block.norm_1), base)
    return x + feed(block.mlp, rms(x, block.norm_3))


def post(block: Any, x: Tensor, base: float = 10_000.0) -> Tensor:
    """A block with a norm after each sum: N(x + F(x)) twice."""
    x = rms(x + attend(block.attn, x, base), block.norm_2)
    return rms(x + feed(block.mlp, x), block.norm_4)


def shaken(model: Any, seed: int = 0) -> Any:
    """The model in double precision, with every weight moved, so that none is hidden by being one
    or zero."""
    model = model.double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return model
