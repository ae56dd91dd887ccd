"""A small module with the names, the wiring and the call order of Parcae, which can be wired in
other ways.

Written from its published equations and the names of its parts. It keeps the states of its last
pass, as the truth about it.
"""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .family_doubles import RMSNorm, rotated


class DiagonalInjection(nn.Module):
    """decay * state + step * B input, with a decay below 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.A_log, self.dt_bias = nn.Parameter(0.1 * torch.randn(width)), nn.Parameter(torch.zeros(width))
        self.B = nn.Parameter(torch.eye(width) + 0.1 * torch.randn(width, width))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        step = F.softplus(self.dt_bias)
        return x * torch.exp(-step * self.A_log.exp()) + step * (e @ self.B.T)


class LinearInjection(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.adapter = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        return self.adapter(torch.cat([x, e], -1))


class ParcaeAttention(nn.Module):
    """Causal attention of two heads, whose values take in the tokens' value embedding, gated."""

    def __init__(self, width: int, values: bool) -> None:
        super().__init__()
        self.c_q, self.c_k, self.c_v, self.c_proj = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.ve_gate = nn.Linear(8, 2, bias=False) if values else None

    def forward(self, x: Tensor, freqs_cis: Tensor, mask: Tensor | None, ve: Tensor | None) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (2, -1)).transpose(1, 2) for part in (self.c_q, self.c_k, self.c_v))
        if ve is not None and self.ve_gate is not None:
            gate = 2 * self.ve_gate(x[..., :8]).sigmoid()
            v = v + (gate[..., None] * ve.unflatten(-1, (2, -1))).transpose(1, 2)
        angles = torch.cat([freqs_cis, freqs_cis], -1)
        q, k = (rotated(part, angles.cos(), angles.sin()) for part in (q, k))
        visible = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        if mask is not None:
            visible = visible & mask[:, None, None].bool() | torch.eye(x.shape[1], dtype=torch.bool)
        z = F.scaled_dot_product_attention(q, k, v, visible)
        return self.c_proj(z.transpose(1, 2).flatten(2))


class ParcaeBlock(nn.Module):
    def __init__(self, width: int, values: bool) -> None:
        super().__init__()
        self.norm_1, self.norm_2, self.attn = RMSNorm(width), RMSNorm(width), ParcaeAttention(width, values)
        self.mlp = nn.Sequential(nn.Linear(width, 24), nn.ReLU(), nn.Linear(24, width))

    def forward(
        self, x: Tensor, freqs_cis: Tensor, mask: Tensor | None = None, ve: Tensor | None = None
    ) -> Tensor:
        x = x + self.attn(self.norm_1(x), freqs_cis, mask, ve)
        return x + self.mlp(self.norm_2(x))


class Parcae(nn.Module):
    """Parcae's class. Wirings: linear, zero_start, no_prelude_norm, softcap, no_coda; scaled,
    capped, own_noise, own_draw, late_values, skip_injection."""

    transformer: Any
    freqs_cis: Tensor

    def __init__(self, *wiring: str, method: str = "per-batch") -> None:
        super().__init__()
        self.wiring, self.seen = set(wiring), []
        self.config = SimpleNamespace(
            mean_recurrence=4,
            mean_backprop_depth=2,
            recurrent_iteration_method=method,
            logit_softcap=3.0 if "softcap" in wiring else None,
            init=SimpleNamespace(logit_scale=0.9),
        )
        counts = {"prelude": 2, "core_block": 2, "coda": 0 if "no_coda" in wiring else 2}
        numbers = iter(range(sum(counts.values())))
        has_values = [i % 2 == (sum(counts.values()) - 1) % 2 for i in range(sum(counts.values()))]
        blocks = {
            name: nn.ModuleList(ParcaeBlock(16, has_values[next(numbers)]) for _ in range(count))
            for name, count in counts.items()
        }
        injection = LinearInjection(16) if "linear" in wiring else DiagonalInjection(16)
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(40, 16),
                "adapter": injection,
                "C": nn.Linear(16, 16, bias=False),
                "ln_f": RMSNorm(16),
                **blocks,
            }
        )
        if "no_prelude_norm" not in wiring:
            self.transformer["ln_prelude"] = RMSNorm(16)
        self.value_embeds = nn.ModuleDict(
            {str(i): nn.Embedding(40, 16) for i, has in enumerate(has_values) if has}
        )
        self.lm_head, self.step = nn.Linear(16, 40, bias=False), 0
        self.register_buffer("freqs_cis", torch.arange(32)[:, None] / 100 ** (torch.arange(4) / 4)[None])

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        return_logits: bool = False,
        num_steps_pair: Any = None,
    ) -> dict[str, Any]:
        t, angles = self.transformer, self.freqs_cis[None, : input_ids.shape[1]]
        angles = angles if position_ids is None else self.freqs_cis[None, position_ids]
        e = self.blocks(t.wte(input_ids), t.prelude, 0, (angles, attention_mask), input_ids)
        e = t.ln_prelude(e) if "ln_prelude" in t else e
        x = 0.5 * torch.randn_like(e) if "own_draw" in self.wiring else self.initialize_state(e)
        self.seen = [x.clone()]
        without, along = self.randomized_iteration_sampler() if num_steps_pair is None else num_steps_pair
        for step in range(int(without) + int(along)):
            with torch.set_grad_enabled(torch.is_grad_enabled() and step >= int(without)):
                x = self.iteration(x, e, step, (angles, attention_mask), input_ids)
        x = self.blocks(t.C(x), t.coda, 4, (angles, attention_mask), input_ids)
        logits = self.lm_head(t.ln_f(x)).float() * self.config.init.logit_scale
        cap = 2.0 if "capped" in self.wiring else self.config.logit_softcap
        logits = logits if cap is None else cap * torch.tanh(logits / cap)
        return {"loss": torch.zeros(()), "logits": logits if return_logits else None}

    def iteration(self, x: Tensor, e: Tensor, step: int, inputs: Any, ids: Tensor) -> Tensor:
        x = x + 0.1 * torch.randn_like(x) if "own_noise" in self.wiring else x
        x = x if step and "skip_injection" in self.wiring else self.transformer.adapter(x, e)
        before = 0 if "late_values" in self.wiring else 2
        x = self.blocks(x, self.transformer.core_block, before, inputs, ids)
        self.seen.append(x.clone())
        return 0.7 * x if "scaled" in self.wiring else x

    def blocks(self, x: Tensor, blocks: Any, before: int, inputs: Any, ids: Tensor) -> Tensor:
        for number, block in enumerate(blocks, before):
            value = self.value_embeds[str(number)](ids) if str(number) in self.value_embeds else None
            x = block(x, *inputs, ve=value)
        return x

    def initialize_state(self, input_embeds: Tensor) -> Tensor:
        return (
            torch.zeros_like(input_embeds) if "zero_start" in self.wiring else torch.randn_like(input_embeds)
        )

    def randomized_iteration_sampler(self) -> tuple[Tensor, Tensor]:
        torch.rand(1)  # the published one draws a number, too, and its counts from generators of its own
        if not self.training:
            return torch.tensor(self.config.mean_recurrence), torch.tensor(0)
        generator = torch.Generator().manual_seed(self.step)
        total = int(torch.poisson(torch.tensor([4.0]), generator=generator).clamp(min=1))
        along = min(total, self.config.mean_backprop_depth)
        return torch.tensor(total - along), torch.tensor(along)
