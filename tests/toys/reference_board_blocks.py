"""Blocks of models for boards as papers write them, in a few lines of torch on a model's own
weights."""

import torch
from torch import Tensor
from torch.nn import functional as F


def rms(x: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).sqrt()


def attention(x: Tensor, qkv: Tensor, out: Tensor, heads: int) -> Tensor:
    """Every position looks at every other; no mask, no angles."""
    batch, length, width = x.shape
    q, k, v = (x @ w.T for w in qkv.chunk(3))
    q, k, v = (y.view(batch, length, heads, width // heads).transpose(1, 2) for y in (q, k, v))
    pattern = (q @ k.transpose(2, 3) / (width // heads) ** 0.5).softmax(-1)
    return (pattern @ v).transpose(1, 2).reshape(batch, length, width) @ out.T


def swiglu(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return (F.silu(x @ gate.T) * (x @ up.T)) @ down.T


def level(weights: dict[str, Tensor], name: str, layers: int, heads: int, z: Tensor) -> Tensor:
    """z = rms(z + attention(z)); z = rms(z + swiglu(z)): norms after, without gain."""
    for n in range(layers):
        attn, mlp = f"{name}.{n}.attn", f"{name}.{n}.mlp"
        z = rms(z + attention(z, weights[f"{attn}.qkv.weight"], weights[f"{attn}.out.weight"], heads))
        z = rms(z + swiglu(z, *(weights[f"{mlp}.{part}.weight"] for part in ("gate", "up", "down"))))
    return z
