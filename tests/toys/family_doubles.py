"""Small modules with the names, the wiring and the call order of models whose code comes with their
checkpoints.

Ouro (ByteDance/Ouro-1.4B) and Huginn (tomg-group-umd/huginn-0125), written from their published
equations and the names of their parts. What is not about the loop is as small as it can be.
"""

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width) + 0.1 * torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight, 1e-6)


class Rotary(nn.Module):
    frequencies: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", 1.0 / 10_000 ** (torch.arange(0, size, 2) / size))

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        angles = (position_ids[..., None].float() * self.frequencies).to(x.dtype)
        angles = torch.cat([angles, angles], -1)
        return angles.cos(), angles.sin()


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return x * cos[:, None] + torch.cat([-b, a], -1) * sin[:, None]


# Ouro
# ------------------------------------------------------------------------------------------


@dataclass
class OuroConfig:
    vocab_size: int = 40
    hidden_size: int = 16
    num_hidden_layers: int = 2
    num_attention_heads: int = 2
    intermediate_size: int = 24
    total_ut_steps: int = 4
    early_exit_threshold: float = 1.0
    dropout: float = 0.0


class UniversalTransformerCache:
    """Keys and values, one slot for each (iteration, layer)."""

    def __init__(self) -> None:
        self.slots: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, k: Tensor, v: Tensor, slot: int) -> tuple[Tensor, Tensor]:
        if slot in self.slots:
            k, v = (torch.cat([old, new], 2) for old, new in zip(self.slots[slot], (k, v), strict=True))
        self.slots[slot] = (k, v)
        return k, v

    def get_seq_length(self) -> int:
        return self.slots[0][0].shape[2] if self.slots else 0


class OuroAttention(nn.Module):
    def __init__(self, config: OuroConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer_idx = config, layer
        width = config.hidden_size
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None,
        past_key_value: UniversalTransformerCache | None,
        current_ut: int,
    ) -> tuple[Tensor, None]:
        batch, length, width = hidden_states.shape
        heads = self.config.num_attention_heads
        q, k, v = (
            part(hidden_states).view(batch, length, heads, width // heads).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = (rotated(x, *position_embeddings) for x in (q, k))
        if past_key_value is not None:
            k, v = past_key_value.update(k, v, current_ut * self.config.num_hidden_layers + self.layer_idx)
        z = F.scaled_dot_product_attention(q, k, v, attention_mask)
        return self.o_proj(z.transpose(1, 2).reshape(batch, length, width)), None


class OuroMLP(nn.Module):
    def __init__(self, config: OuroConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class OuroDecoderLayer(nn.Module):
    attention_type = "full_attention"
    input_layernorm: Any
    input_layernorm_2: Any
    post_attention_layernorm: Any
    post_attention_layernorm_2: Any

    def __init__(self, config: OuroConfig, layer: int) -> None:
        super().__init__()
        self.self_attn, self.mlp = OuroAttention(config, layer), OuroMLP(config)
        self.dropout = nn.Dropout(config.dropout)
        for name in (
            "input_layernorm",
            "input_layernorm_2",
            "post_attention_layernorm",
            "post_attention_layernorm_2",
        ):
            self.add_module(name, RMSNorm(config.hidden_size))

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_value: UniversalTransformerCache | None = None,
        use_cache: bool = False,
        cache_position: Tensor | None = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        current_ut: int = 0,
    ) -> Tensor:
        assert position_embeddings is not None
        h, _ = self.self_attn(
            self.input_layernorm(hidden_states),
            position_embeddings,
            attention_mask,
            past_key_value,
            current_ut,
        )
        hidden_states = hidden_states + self.dropout(self.input_layernorm_2(h))
        h = self.mlp(self.post_attention_layernorm(hidden_states))
        return hidden_states + self.dropout(self.post_attention_layernorm_2(h))


class OuroModel(nn.Module):
    layers: Any

    def __init__(self, config: OuroConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(OuroDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size)
        self.rotary_emb = Rotary(config.hidden_size // config.num_attention_heads)
        self.total_ut_steps = config.total_ut_steps
        self.early_exit_gate = nn.Linear(config.hidden_size, 1)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: UniversalTransformerCache | None = None,
        use_cache: bool = True,
    ) -> tuple[Any, list[Tensor], list[Tensor]]:
        if use_cache and past_key_values is None:
            past_key_values = UniversalTransformerCache()
        h = self.embed_tokens(input_ids)
        seen = 0 if past_key_values is None else past_key_values.get_seq_length()
        cache_position = torch.arange(seen, seen + h.shape[1])
        mask = cache_position[:, None] >= torch.arange(seen + h.shape[1])
        if attention_mask is not None:
            mask = mask & attention_mask[:, None, None, :].bool()
            mask = mask | torch.eye(h.shape[1], dtype=torch.bool)
        angles = self.rotary_emb(h, cache_position[None])
        states, gates = [], []
        for current_ut in range(self.total_ut_steps):
            for layer in self.layers[: self.config.num_hidden_layers]:
                h = layer(
                    h,
                    attention_mask=mask,
                    position_ids=cache_position[None],
                    past_key_value=past_key_values,
                    use_cache=use_cache,
                    cache_position=cache_position,
                    position_embeddings=angles,
                    current_ut=current_ut,
                )
            h = self.norm(h)
            states.append(h)
            gates.append(self.early_exit_gate(h))
        return SimpleNamespace(last_hidden_state=h, past_key_values=past_key_values), states, gates


class OuroForCausalLM(nn.Module):
    def __init__(self, config: OuroConfig | None = None) -> None:
        super().__init__()
        self.config = config or OuroConfig()
        self.model = OuroModel(self.config)
        self.lm_head = nn.Linear(self.config.hidden_size, self.config.vocab_size, bias=False)

    def forward(self, input_ids: Tensor, **inputs: Any) -> Any:
        out, _, _ = self.model(input_ids, **inputs)
        return SimpleNamespace(
            logits=self.lm_head(out.last_hidden_state), past_key_values=out.past_key_values
        )

    @torch.no_grad()
    def generate(self, input_ids: Tensor, max_new_tokens: int = 4, use_cache: bool = True) -> Tensor:
        """Greedy, as transformers does it: the prompt in one pass, then a token each, or all of
        them again."""
        past = None
        new = input_ids
        for _ in range(max_new_tokens):
            out = self(new if use_cache else input_ids, past_key_values=past, use_cache=use_cache)
            past = out.past_key_values
            new = out.logits[:, -1:].argmax(-1)
            input_ids = torch.cat([input_ids, new], 1)
        return input_ids


# Huginn
# ------------------------------------------------------------------------------------------


@dataclass
class RavenConfig:
    vocab_size: int = 40
    n_embd: int = 16
    num_attention_heads: int = 2
    intermediate_size: int = 24
    n_layers_in_prelude: int = 2
    n_layers_in_recurrent_block: int = 2
    n_layers_in_coda: int = 2
    mean_recurrence: int = 6
    mean_backprop_depth: int = 3
    block_size: int = 64
    test_time_noise: float = 0.0
    init_values: dict[str, float] = field(default_factory=lambda: {"std": math.sqrt(2 / (5 * 16))})


class CausalSelfAttention(nn.Module):
    def __init__(self, config: RavenConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.Wqkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.qk_bias = nn.Parameter(0.1 * torch.randn(2, 1, 1, config.n_embd))
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=False)

    def forward(
        self, x: Tensor, freqs_cis: Tensor, block_idx: Tensor, mask: Any, past_key_values: Any
    ) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.Wqkv(x).chunk(3, -1)
        q, k = q + self.qk_bias[0], k + self.qk_bias[1]
        q, k, v = (y.view(batch, length, self.heads, -1).transpose(1, 2) for y in (q, k, v))
        angles = torch.cat([freqs_cis, freqs_cis], -1)
        q, k = (rotated(y, angles.cos(), angles.sin()) for y in (q, k))
        if past_key_values is not None:
            k, v = past_key_values.update(k, v, int(block_idx))
        causal = q.shape[2] == k.shape[2]
        z = F.scaled_dot_product_attention(q, k, v, is_causal=causal and q.shape[2] > 1)
        return self.proj(z.transpose(1, 2).reshape(batch, length, width))


class GatedMLP(nn.Module):
    def __init__(self, config: RavenConfig) -> None:
        super().__init__()
        self.fc = nn.Linear(config.n_embd, 2 * config.intermediate_size, bias=False)
        self.proj = nn.Linear(config.intermediate_size, config.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.fc(x).chunk(2, -1)
        return self.proj(F.silu(one) * two)


class SandwichBlock(nn.Module):
    def __init__(self, config: RavenConfig) -> None:
        super().__init__()
        self.norm_1, self.norm_2, self.norm_3, self.norm_4 = (RMSNorm(config.n_embd) for _ in range(4))
        self.attn, self.mlp = CausalSelfAttention(config), GatedMLP(config)

    def forward(
        self, x: Tensor, freqs_cis: Tensor, step_idx: Tensor, mask: Any = None, past: Any = None
    ) -> Tensor:
        x = self.norm_2(self.attn(self.norm_1(x), freqs_cis, step_idx, mask, past) + x)
        return self.norm_4(self.mlp(self.norm_3(x)) + x)


class RavenForCausalLM(nn.Module):
    transformer: Any
    freqs_cis: Tensor

    def __init__(self, config: RavenConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or RavenConfig()

        def blocks(count: int) -> nn.ModuleList:
            return nn.ModuleList(SandwichBlock(config) for _ in range(count))

        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.vocab_size, config.n_embd),
                "prelude": blocks(config.n_layers_in_prelude),
                "adapter": nn.Linear(2 * config.n_embd, config.n_embd, bias=False),
                "core_block": blocks(config.n_layers_in_recurrent_block),
                "coda": blocks(config.n_layers_in_coda),
                "ln_f": RMSNorm(config.n_embd),
            }
        )
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.emb_scale = math.sqrt(config.n_embd)
        size = config.n_embd // config.num_attention_heads
        steps = torch.arange(config.block_size)[:, None] / 50_000 ** (torch.arange(0, size, 2) / size)
        self.register_buffer("freqs_cis", steps[None])

    def forward(
        self,
        input_ids: Tensor,
        input_states: Tensor | None = None,
        num_steps: Any = None,
        past_key_values: Any = None,
        use_cache: bool = False,
        init_scale: float = 1.0,
    ) -> Any:
        if use_cache and past_key_values is None:
            past_key_values = UniversalTransformerCache()
        seen = 0 if past_key_values is None else past_key_values.get_seq_length()
        angles = self.freqs_cis[:, seen : seen + input_ids.shape[1]]
        e = self.transformer.wte(input_ids) * self.emb_scale
        number = torch.tensor(-1)
        for block in self.transformer.prelude:
            number = number + 1
            e = block(e, angles, number, None, past_key_values)
        x, number = self.iterate_forward(
            e, input_states, angles, number, past_key_values, num_steps, init_scale
        )
        latent = x.clone().detach()
        number = torch.tensor(0)
        for block in self.transformer.coda:
            number = number - 1
            x = block(x, angles, number, None, past_key_values)
        logits = self.lm_head(self.transformer.ln_f(x)).float()
        return SimpleNamespace(logits=logits, latent_states=latent, past_key_values=past_key_values)

    def iterate_forward(self, e, states, angles, number, past, num_steps, scale):
        x = self.initialize_state(e, scale) if states is None else states.clone()
        if num_steps is None:
            without, along = self.randomized_iteration_sampler()
        elif hasattr(num_steps, "__len__") and len(num_steps) > 1:
            without, along = num_steps
        else:
            without, along = num_steps, 0
        with torch.no_grad():
            for _ in range(int(without)):
                x, number = self.core_block_forward(x, e, angles, number, past)
        for _ in range(int(along)):
            x, number = self.core_block_forward(x, e, angles, number, past)
        return self.transformer.ln_f(x), number

    def core_block_forward(self, x, e, angles, number, past):
        x = self.transformer.adapter(torch.cat([x, e], dim=-1))
        for block in self.transformer.core_block:
            number = number + 1
            x = block(x, angles, number, None, past)
        return x, number

    def initialize_state(self, embeds: Tensor, scale: float = 1.0) -> Tensor:
        x, std = torch.randn_like(embeds), self.config.init_values["std"] * scale
        nn.init.trunc_normal_(x, mean=0.0, std=std, a=-3 * std, b=3 * std)
        return x * self.emb_scale

    def randomized_iteration_sampler(self) -> tuple[Tensor, Tensor]:
        mean, along = self.config.mean_recurrence, self.config.mean_backprop_depth
        if not self.training:
            return torch.tensor(mean), torch.tensor(0)
        rate = torch.zeros(1).log_normal_(mean=math.log(mean) - 0.125, std=0.5)
        p = torch.poisson(rate) + 1
        return torch.clamp(p - along, min=0).long()[0], torch.minimum(torch.tensor(float(along)), p).long()[0]
