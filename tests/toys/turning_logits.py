"""A loop whose state is its logits, which each iteration turns by one token."""

import torch

import loopscope as ls

from .table_loop import Planted

V, N, C = 7, 5, 0.8


def turning(batch=2, positions=3):
    """The state is the logits: token v has -C·(v - k mod V) after k iterations, as each turns them
    by one."""
    start = (-C * torch.arange(V, dtype=torch.float64)).expand(batch, positions, V).clone()
    return ls.iterate(lambda h: h.roll(1, -1), start, N)


def planted(table, task=None, tokens=None):
    """A run whose logits after k iterations are table[k]."""
    model = Planted(table, task).eval()
    tokens = torch.zeros(table.shape[1:3], dtype=torch.long) if tokens is None else tokens
    return ls.record(model, tokens)
