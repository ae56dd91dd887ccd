"""A small module with the names, the wiring and the call order of a Universal Transformer in
PyTorch that answers questions about stories, which can be wired in other ways.

Written from its published equations (Dehghani et al. 2018, Graves 2016) and the names of its parts.
It keeps the states of its last pass, as the truth about it.
"""

from typing import Any

import torch
from torch import Tensor, nn


def signal(length: int, width: int) -> Tensor:
    """(1, length, width): sines and cosines."""
    angles = torch.arange(length)[:, None] / 100 ** (torch.arange(width // 2) / (width // 2))
    return torch.cat([angles.sin(), angles.cos()], -1)[None]


class EncoderLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.multi_head_attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.positionwise_feed_forward = nn.Sequential(nn.Linear(width, 24), nn.ReLU(), nn.Linear(24, width))
        self.layer_norm_mha, self.layer_norm_ffn = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, inputs: Tensor) -> Tensor:
        h = self.layer_norm_mha(inputs)
        x = inputs + self.multi_head_attention(h, h, h, need_weights=False)[0]
        return x + self.positionwise_feed_forward(self.layer_norm_ffn(x))


class ACT_basic(nn.Module):
    def __init__(self, width: int, wiring: set[str]) -> None:
        super().__init__()
        self.p, self.threshold, self.wiring = nn.Linear(width, 1), 0.9, wiring
        self.seen: list[Tensor] = []

    def forward(
        self, state: Tensor, inputs: Tensor, fn: Any, places: Tensor, depths: Tensor, most: int
    ) -> Any:
        mass, remainder, count = (torch.zeros(inputs.shape[:2]) for _ in range(3))
        output, step = torch.zeros_like(inputs), 0
        self.seen = [state.clone()]
        while ((mass < self.threshold) & (count < most)).any():
            state = state + places[:, : inputs.shape[1]] + depths[:, step][:, None]
            p, running = torch.sigmoid(self.p(state))[..., 0], (mass < 1).float()
            halts = (mass + p * running > self.threshold).float() * running
            running = (mass + p * running <= self.threshold).float() * running
            mass = mass + p * running
            remainder = remainder + halts * (1 - mass)
            mass, count = mass + halts * remainder, count + running + halts
            weight = (p * running + halts * remainder)[..., None]
            state = fn(state)
            kept = output if "accumulated" in self.wiring else output * (1 - weight)
            output, step = state * weight + kept, step + 1
            self.seen.append(state.clone())
            state = 0.7 * state if "scaled" in self.wiring else state
        return output, (remainder, count)


class Encoder(nn.Module):
    def __init__(self, width: int, layers: int, wiring: set[str]) -> None:
        super().__init__()
        self.timing_signal, self.position_signal = signal(16, width), signal(layers, width)
        self.num_layers, self.act, self.wiring = layers, "act" in wiring, wiring
        self.proj_flag = "no_projection" not in wiring
        self.embedding_proj, self.enc = nn.Linear(width, width, bias=False), EncoderLayer(width)
        self.input_dropout = nn.Dropout(0.1)
        if self.act:
            self.act_fn = ACT_basic(width, wiring)
        self.seen: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Any:
        x = self.input_dropout(inputs)
        x = self.embedding_proj(x) if self.proj_flag else x
        if self.act:
            output, halting = self.act_fn(
                x, inputs, self.enc, self.timing_signal, self.position_signal, self.num_layers
            )
            self.seen = self.act_fn.seen
            return output, halting
        self.seen = [x.clone()]
        for layer in range(self.num_layers):
            x = x + self.timing_signal[:, : inputs.shape[1]] + self.position_signal[:, layer][:, None]
            x = self.enc(x)
            self.seen.append(x.clone())
            x = 0.7 * x if "scaled" in self.wiring else x
        return x, None


class BabiUTransformer(nn.Module):
    """Its class. Wirings: act, no_projection, capped; accumulated, scaled."""

    def __init__(self, *wiring: str, layers: int = 5, bias: float = -1.5) -> None:
        super().__init__()
        self.wiring = set(wiring)
        self.emb, self.mask = nn.Embedding(20, 16), nn.Parameter(torch.ones(8, 16) + 0.1 * torch.randn(8, 16))
        self.transformer_enc, self.W = Encoder(16, layers, self.wiring), nn.Linear(16, 20)
        self.W.weight = self.emb.weight
        self.softmax = nn.Softmax(dim=1)
        if "act" in self.wiring:
            nn.init.normal_(self.transformer_enc.act_fn.p.weight, std=0.03)
            nn.init.constant_(self.transformer_enc.act_fn.p.bias, bias)

    @property
    def seen(self) -> list[Tensor]:
        return self.transformer_enc.seen

    def forward(self, story: Tensor, query: Tensor) -> Any:
        sentences = (self.emb(story) * self.mask[: story.shape[2]]).sum(2)
        question = (self.emb(query)[:, None] * self.mask[: query.shape[1]]).sum(2)
        h, act = self.transformer_enc(torch.cat([sentences, question], 1))
        answer = self.W(h.sum(1) / h.shape[1])
        answer = 2 * torch.tanh(answer / 2) if "capped" in self.wiring else answer
        return answer, self.softmax(answer), act
