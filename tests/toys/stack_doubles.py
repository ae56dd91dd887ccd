"""Small modules with the names, the wiring and the call order of MoEUT's language model and of
looped_nanochat's GPT, each of which can be wired in other ways.

Written from their published equations and the names of their parts. They keep the states of their
last pass, as the truth about them.
"""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .family_doubles import RMSNorm


def attended(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
    """Causal attention of one head, without the pairs of positions that are hidden."""
    return F.scaled_dot_product_attention(q, k, v, ~hidden)


def future(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).triu(1)


# MoEUT
# ------------------------------------------------------------------------------------------


class SigmaMoE(nn.Module):
    """The two best of four experts, weighted by their sigmoids."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(0.3 * torch.randn(4, width, 8))
        self.values = nn.Parameter(0.3 * torch.randn(4, 8, width))
        self.expert_sel = nn.Parameter(torch.randn(4, width))
        self.sel_hist: list[Tensor] = []

    def forward(self, x: Tensor, sel_input: Tensor) -> Tensor:
        chosen = F.linear(sel_input, self.expert_sel)
        if self.training:
            self.sel_hist.append(chosen)
        weight, index = chosen.sigmoid().topk(2, -1)
        hidden = F.relu(torch.einsum("bpw,bpkwh->bpkh", x, self.keys[index]))
        return torch.einsum("bpkh,bpkhw,bpk->bpw", hidden, self.values[index], weight)


class SwitchHead(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, q_src: Tensor, k_src: Tensor, v_src: Tensor, mask: Any) -> Tensor:
        hidden = mask.position_mask
        if mask.src_length_mask is not None:
            hidden = hidden | mask.src_length_mask[:, None]
        return self.o(attended(self.q(q_src), self.k(k_src), self.v(v_src), hidden))


class MoEUTLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention, self.ffn = SwitchHead(width), SigmaMoE(width)
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor, mask: Any = None, kv_cache: Any = None) -> tuple[Tensor, Any]:
        normed = self.ln1(x)
        x = x + self.drop(self.attention(normed, normed, x, mask))
        return x + self.ffn(x, self.ln2(x)), kv_cache


class MoEUT(nn.Module):
    def __init__(self, width: int, wiring: set[str]) -> None:
        super().__init__()
        self.n_repeats, self.wiring = 3, wiring
        self.layers = nn.ModuleList(MoEUTLayer(width) for _ in range(1 if "one_layer" in wiring else 2))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, mask: Any = None, kv_cache: Any = None) -> Any:
        self.seen = [x]
        for repeat in range(self.n_repeats):
            backwards = "alternating" in self.wiring and repeat % 2
            for layer in reversed(self.layers) if backwards else self.layers:
                x, _ = layer(x, mask, kv_cache=None)
            self.seen.append(x)
            x = 0.7 * x if "scaled" in self.wiring and repeat + 1 < self.n_repeats else x
            x = x + 0.1 * torch.randn_like(x) if "own_noise" in self.wiring else x
        loss = torch.zeros(1)
        for layer in self.layers:
            for choices in layer.ffn.sel_hist:  # pyright: ignore
                loss = loss + choices.softmax(-1).square().mean()
            layer.ffn.sel_hist = []  # pyright: ignore
        return SimpleNamespace(outputs=x, reg_loss=loss, cache=None)


class MoEUTLM(nn.Module):
    """MoEUT's class. Wirings: one_layer, no_norm; scaled, alternating, own_noise."""

    def __init__(self, *wiring: str) -> None:
        super().__init__()
        self.wiring = set(wiring)
        self.embedding, self.lm_head = nn.Embedding(40, 16), nn.Linear(16, 40)
        self.transformer, self.out_norm = MoEUT(16, self.wiring), nn.LayerNorm(16)

    @property
    def seen(self) -> list[Tensor]:
        return self.transformer.seen

    def forward(self, x: Tensor, mask: Any = None, kv_cache: Any = None) -> Any:
        if mask is None:
            mask = SimpleNamespace(position_mask=future(x.shape[1]), src_length_mask=None)
        out = self.transformer(self.embedding(x), mask, kv_cache)
        h = out.outputs if "no_norm" in self.wiring else self.out_norm(out.outputs)
        out.outputs = self.lm_head(h)
        return out


# looped_nanochat
# ------------------------------------------------------------------------------------------


class NanochatAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_q, self.c_k, self.c_v, self.c_proj = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor, cos_sin: tuple[Tensor, Tensor], window: tuple[int, int]) -> Tensor:
        cos, sin = cos_sin
        q, k = (part(x) * cos + part(x).roll(8, -1) * sin for part in (self.c_q, self.c_k))
        far = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril(-window[0] - 1)
        return self.c_proj(attended(q, k, self.c_v(x), future(x.shape[1]) | far))


class NanochatBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = NanochatAttention(width)
        self.mlp = nn.Sequential(nn.Linear(width, 24), nn.ReLU(), nn.Linear(24, width))
        self.n1, self.n2, self.n3, self.n4 = (RMSNorm(width) for _ in range(4))

    def forward(self, x: Tensor, cos_sin: Any, window: Any, kv_cache: Any, layer_idx: Any = None) -> Tensor:
        x = self.n2(x + self.attn(self.n1(x), cos_sin, window))
        return self.n4(x + self.mlp(self.n3(x)))


class GPT(nn.Module):
    """looped_nanochat's class. Wirings: random_start, passthrough, no_prelude, swapped_halves;
    scaled, capped, own_noise, skip_injection."""

    transformer: Any
    cos: Tensor
    sin: Tensor

    def __init__(self, *wiring: str) -> None:
        super().__init__()
        self.wiring, self.seen = set(wiring), []
        self.config = SimpleNamespace(train_recur_mean=4.0, bptt_k=2, vocab_size=40)
        counts = {"prelude": 0 if "no_prelude" in wiring else 1, "recur": 2, "coda": 1}
        blocks = {name: nn.ModuleList(NanochatBlock(16) for _ in range(n)) for name, n in counts.items()}
        self.window_sizes = [(3, 0), (16, 0), (2, 0), (16, 0)][4 - sum(counts.values()) :]
        self.transformer = nn.ModuleDict({"wte": nn.Embedding(40, 16), **blocks})
        if "passthrough" not in wiring:
            self.inject = nn.Linear(32, 16, bias=False)
        self.norm_emb, self.norm_recur, self.norm_final = (RMSNorm(16) for _ in range(3))
        self.lm_head = nn.Linear(16, 40, bias=False)
        angles = torch.arange(32)[:, None] / 100 ** (torch.arange(16) / 16)
        self.register_buffer("cos", angles.cos().bfloat16()[None])
        self.register_buffer("sin", angles.sin().bfloat16()[None])

    def _state_transfer(self, e: Tensor, s: Any = None, warm_start_state: Any = None) -> Tensor:
        if s is None:
            s = e.clone() if "random_start" not in self.wiring else torch.randn_like(e) / 4
            s = s if warm_start_state is None else warm_start_state.expand_as(e)
            self.seen = [s]
        if "passthrough" in self.wiring:
            return s
        return self.inject(torch.cat([s, e] if "swapped_halves" in self.wiring else [e, s], -1))

    def _predict(self, s: Tensor, cos_sin: Any, kv_cache: Any = None, kv_budget: Any = None) -> Tensor:
        for block in self.transformer.coda:
            s = block(s, cos_sin, self.window_sizes[-1], kv_cache, None)
        return 15 * torch.tanh(self.lm_head(self.norm_final(s)) / 15)

    def forward(
        self,
        idx: Tensor,
        targets: Tensor | None = None,
        kv_cache: Any = None,
        loss_reduction: str = "mean",
        num_recur: int | None = None,
        warm_start_state: Tensor | None = None,
        return_intermediate_logits: bool = False,
        return_intermediate_states: bool = False,
    ) -> Any:
        assert self.cos.dtype == torch.bfloat16, "the published code reads no other angles"
        cos_sin = self.cos[:, : idx.shape[1]], self.sin[:, : idx.shape[1]]
        e = self.norm_emb(self.transformer.wte(idx))
        for block, window in zip(self.transformer.prelude, self.window_sizes, strict=False):
            e = block(e, cos_sin, window, kv_cache, None)
        s, count = None, int(self.config.train_recur_mean) if num_recur is None else num_recur
        for t in range(count):
            u = s if t and "skip_injection" in self.wiring else self._state_transfer(e, s, warm_start_state)
            u = u + 0.1 * torch.randn_like(u) if "own_noise" in self.wiring else u
            for block, window in zip(self.transformer.recur, self.window_sizes[-3:-1], strict=True):
                u = block(u, cos_sin, window, kv_cache, None)
            s = self.norm_recur(u)
            s = s.detach() if t < count - self.config.bptt_k else s
            self.seen.append(s)
            s = 0.7 * s if "scaled" in self.wiring else s
        logits = self._predict(s, cos_sin, kv_cache)
        return 3 * torch.tanh(logits / 3) if "capped" in self.wiring else logits, s
