"""A small module with the names, the wiring and the call order of a Mixture-of-Recursions whose
experts choose their tokens (Bae et al. 2025), written from its published equations.

Each recursion keeps the best of the tokens that the one before kept, runs the shared blocks on them
and adds what comes out, weighted. The recursions are modules of their own, with a router each; the
parameters of their blocks are the same.
"""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, 24), nn.ReLU(), nn.Linear(24, width))

    def forward(self, hidden_states: Tensor) -> tuple[Tensor]:
        q, k, v = (part(hidden_states) for part in (self.q_proj, self.k_proj, self.v_proj))
        z = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = hidden_states + self.o_proj(z)
        return (h + self.mlp(h),)


class MoRLlamaDecoderLayer(nn.Module):
    def __init__(self, width: int, capacity: float) -> None:
        super().__init__()
        self.mor, self.mor_type, self.capacity_factor = True, "expert", capacity
        self.mor_router, self.block = nn.Linear(width, 1, bias=False), nn.ModuleList([Block(width)])

    def forward(self, x: Tensor, prev_selected_tokens: Tensor | None = None) -> Any:
        width = x.shape[-1]
        kept = (
            torch.arange(x.shape[1])[None, :, None] if prev_selected_tokens is None else prev_selected_tokens
        )
        kept = kept.expand(x.shape[0], -1, 1)
        weights = torch.sigmoid(self.mor_router(x.gather(1, kept.expand(-1, -1, width))))
        best, place = weights.topk(max(1, int(self.capacity_factor * x.shape[1])), 1)
        place, order = place.sort(1)
        selected, best = kept.gather(1, place), best.gather(1, order)
        h = x.gather(1, selected.expand(-1, -1, width))
        for block in self.block:
            (h,) = block(h)
        total = x.scatter_add(1, selected.expand(-1, -1, width), h * best)
        return SimpleNamespace(hidden_state=total, selected_tokens=selected)


class MoRLlamaForCausalLM(nn.Module):
    """The class of Mixture-of-Recursions. Wirings: untied."""

    def __init__(self, *wiring: str, width: int = 8) -> None:
        super().__init__()
        self.model, self.lm_head = nn.Module(), nn.Linear(width, 40, bias=False)
        middle = [MoRLlamaDecoderLayer(width, capacity) for capacity in (1.0, 0.6, 0.4)]
        if "untied" not in wiring:
            shared = dict(middle[0].block.named_parameters())
            for layer in middle[1:]:
                for name, weight in shared.items():
                    owner, last = name.rsplit(".", 1)
                    setattr(layer.block.get_submodule(owner), last, weight)
        self.model.embed_tokens, self.model.norm = nn.Embedding(40, width), nn.LayerNorm(width)
        self.model.layers = nn.ModuleList([Block(width), *middle, Block(width)])

    def forward(self, input_ids: Tensor) -> Any:
        base: Any = self.model
        first, *middle, last = base.layers
        (h,), selected = first(base.embed_tokens(input_ids)), None
        for layer in middle:
            out = layer(h, prev_selected_tokens=selected)
            h, selected = out.hidden_state, out.selected_tokens
        return SimpleNamespace(logits=self.lm_head(base.norm(last(h)[0])))
