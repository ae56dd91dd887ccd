"""A small module with the names, the wiring and the call order of Nanbeige, written from its
published facts: all layers, `num_loops` times, a norm between the loops unless it is skipped."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from .family_doubles import OuroConfig, OuroDecoderLayer, RMSNorm, Rotary, UniversalTransformerCache


class NanbeigeDecoderLayer(OuroDecoderLayer):
    def forward(self, hidden_states: Tensor, loop_idx: int = 0, **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (super().forward(hidden_states, current_ut=loop_idx, **kwargs),)


class NanbeigeModel(nn.Module):
    layers: Any

    def __init__(self, config: Any, wiring: set[str]) -> None:
        super().__init__()
        self.config, self.wiring = config, wiring
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(NanbeigeDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size)
        self.rotary_emb = Rotary(config.hidden_size // config.num_attention_heads)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        cache_position: Tensor | None = None,
    ) -> Any:
        if use_cache and past_key_values is None:
            past_key_values = UniversalTransformerCache()
        h = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        seen = 0 if past_key_values is None else past_key_values.get_seq_length()
        places = torch.arange(seen, seen + h.shape[1]) if cache_position is None else cache_position
        mask = torch.arange(seen, seen + h.shape[1])[:, None] >= torch.arange(seen + h.shape[1])
        if attention_mask is not None:
            mask = mask & attention_mask[:, None, None, :].bool()
            mask = mask | torch.eye(h.shape[1], dtype=torch.bool)
        angles = self.rotary_emb(h, places[None] if position_ids is None else position_ids)
        for loop_idx in range(self.config.num_loops):
            for layer in self.layers:
                (h,) = layer(
                    h,
                    attention_mask=mask,
                    past_key_value=past_key_values,
                    position_embeddings=angles,
                    loop_idx=loop_idx,
                )
            last = loop_idx == self.config.num_loops - 1
            if "damped" in self.wiring and not last:
                h = 0.5 * h
            if last or not self.config.skip_loop_final_norm:
                h = self.norm(h)
        return SimpleNamespace(last_hidden_state=h, past_key_values=past_key_values)


class NanbeigeForCausalLM(nn.Module):
    """Other wirings: damped, between the loops; scaled, before the head."""

    def __init__(self, *wiring: str, num_loops: int = 2, skip_loop_final_norm: bool = False) -> None:
        super().__init__()
        self.config: Any = OuroConfig()
        self.config.num_loops, self.config.skip_loop_final_norm = num_loops, skip_loop_final_norm
        self.model = NanbeigeModel(self.config, set(wiring))
        self.lm_head = nn.Linear(self.config.hidden_size, self.config.vocab_size, bias=False)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        cache_position: Tensor | None = None,
        logits_to_keep: Any = 0,
        **kwargs: Any,
    ) -> Any:
        out = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache, cache_position
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        h = out.last_hidden_state[:, keep]
        logits = self.lm_head(1.5 * h if "scaled" in self.model.wiring else h)
        return SimpleNamespace(logits=logits, past_key_values=out.past_key_values)

    @torch.no_grad()
    def generate(self, input_ids: Tensor, max_new_tokens: int = 4, use_cache: bool = True) -> Tensor:
        """Greedy, with a cache or without."""
        past, new = None, input_ids
        for _ in range(max_new_tokens):
            out = self(new if use_cache else input_ids, past_key_values=past, use_cache=use_cache)
            past = out.past_key_values
            new = out.logits[:, -1:].argmax(-1)
            input_ids = torch.cat([input_ids, new], 1)
        return input_ids
