"""Models with the class names of known families and the inputs of their published code, each of
which can be wired in other ways. They keep the states of their last pass, as the truth about
them."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from .family_doubles import OuroConfig, OuroModel, RavenConfig, RMSNorm
from .family_doubles import RavenForCausalLM as PublishedRaven


class RavenForCausalLM(PublishedRaven):
    """Huginn's class. Wirings: no_norm, skip_adapter, zero_start, embedded_start, own_draw,
    swapped_halves, swapped_blocks, norm_inside, more_iterations, noise; scaled, scaled_tail,
    capped, own_noise."""

    def __init__(self, *wiring: str, **options: Any) -> None:
        super().__init__(RavenConfig(test_time_noise=0.3 if "noise" in wiring else 0.0, **options))
        self.wiring, self.seen = set(wiring), []

    def forward(
        self,
        input_ids: Tensor,
        input_embeds: Tensor | None = None,
        input_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        num_steps: Any = None,
        past_key_values: Any = None,
        output_details: Any = None,
        use_cache: bool = False,
        cache_position: Tensor | None = None,
        init_scale: float = 1.0,
        **kwargs: Any,
    ) -> Any:
        t = self.transformer
        positions = position_ids.squeeze() if position_ids is not None else cache_position
        angles = (
            self.freqs_cis[:, : input_ids.shape[1]] if positions is None else self.freqs_cis[:, positions]
        )
        e = (t.wte(input_ids) if input_embeds is None else input_embeds) * self.emb_scale
        for number, block in enumerate(t.prelude):
            e = block(e, angles, torch.tensor(number), None, None)
        x = self.start(e, init_scale) if input_states is None else input_states.clone()
        self.seen = [x.clone()]
        for step in range(self.count(num_steps)):
            x = self.iteration(x, e, angles, step)
        x = x if "no_norm" in self.wiring else t.ln_f(x)
        x = 1.5 * x if "scaled_tail" in self.wiring else x
        for number, block in enumerate(t.coda, 1):
            x = block(x, angles, torch.tensor(-number), None, None)
        logits = self.lm_head(t.ln_f(x)).float()
        logits = 3 * torch.tanh(logits / 3) if "capped" in self.wiring else logits
        return SimpleNamespace(loss=None, logits=logits)

    def count(self, num_steps: Any) -> int:
        more = 2 * ("more_iterations" in self.wiring)
        return (
            sum(map(int, self.randomized_iteration_sampler())) + more if num_steps is None else int(num_steps)
        )

    def start(self, e: Tensor, scale: float) -> Tensor:
        if "zero_start" in self.wiring:
            return torch.zeros_like(e)
        if "embedded_start" in self.wiring:
            return e.clone()
        return torch.randn_like(e) if "own_draw" in self.wiring else self.initialize_state(e, scale)

    def iteration(self, x: Tensor, e: Tensor, angles: Tensor, step: int) -> Tensor:
        t = self.transformer
        x = self._maybe_inject_noise(x, step)
        if "own_noise" in self.wiring:
            x = x + 0.1 * torch.randn_like(x)
        if step or "skip_adapter" not in self.wiring:
            x = t.adapter(torch.cat([e, x] if "swapped_halves" in self.wiring else [x, e], -1))
        blocks = list(t.core_block)
        for block in reversed(blocks) if "swapped_blocks" in self.wiring else blocks:
            x = block(x, angles, torch.tensor(2), None, None)
        x = t.ln_f(x) if "norm_inside" in self.wiring else x
        self.seen.append(x.clone())
        return 0.7 * x if "scaled" in self.wiring else x

    def _maybe_inject_noise(self, x: Tensor, step: int) -> Tensor:
        return (
            x + self.config.test_time_noise * torch.randn_like(x) / (step + 1)
            if "noise" in self.wiring
            else x
        )


class OuroForCausalLM(nn.Module):
    """Ouro's class. Wirings: no_norm_inside, swapped_layers, no_gate; scaled, capped, late_norm,
    own_noise."""

    def __init__(self, *wiring: str, threshold: float | None = 1.0) -> None:
        super().__init__()
        threshold = None if "no_norm_inside" in wiring else threshold  # an earlier state has no read-out then
        self.config = OuroConfig(early_exit_threshold=threshold)  # pyright: ignore[reportArgumentType]
        self.model, self.lm_head = OuroModel(self.config), nn.Linear(16, 40, bias=False)
        self.wiring, self.seen = set(wiring), []
        nn.init.normal_(self.model.early_exit_gate.weight)  # so that positions exit at different steps
        if "no_gate" in wiring:
            del self.model.early_exit_gate

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
        use_weighted_exit: bool = False,
        exit_at_step: int | None = None,
        exit_threshold: float | None = None,
        **kwargs: Any,
    ) -> Any:
        h = self.model.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        length = h.shape[1]
        places = torch.arange(length) if cache_position is None else cache_position
        places = places[None] if position_ids is None else position_ids
        mask = torch.ones(length, length, dtype=torch.bool).tril()
        if attention_mask is not None:
            mask = mask & attention_mask[:, None, None, :].bool() | torch.eye(length, dtype=torch.bool)
        passed, gates = self.loop(h, mask, self.model.rotary_emb(h, places))
        last = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.answer(passed, gates, last, use_weighted_exit, exit_at_step, exit_threshold)
        logits = 3 * torch.tanh(logits / 3) if "capped" in self.wiring else logits
        return SimpleNamespace(loss=None, logits=logits, past_key_values=None)

    def loop(self, h: Tensor, mask: Tensor, angles: Any) -> tuple[list[Tensor], list[Tensor]]:
        base, passed, gates = self.model, [], []
        self.seen = [h.clone()]
        for t in range(base.total_ut_steps):
            layers = list(base.layers)
            for layer in reversed(layers) if "swapped_layers" in self.wiring else layers:
                h = layer(h, attention_mask=mask, position_embeddings=angles, current_ut=t, use_cache=False)
            late = "late_norm" in self.wiring
            self.seen += [h.clone()] if late else []
            h = h if "no_norm_inside" in self.wiring or (late and t == 0) else base.norm(h)
            self.seen += [] if late else [h.clone()]
            h = 0.7 * h if "scaled" in self.wiring else h
            h = h + 0.1 * torch.randn_like(h) if "own_noise" in self.wiring else h
            passed.append(h)
            if hasattr(base, "early_exit_gate"):
                gates.append(base.early_exit_gate(h)[..., 0])
        if "no_norm_inside" in self.wiring:
            passed[-1] = base.norm(passed[-1])
        return passed, gates

    def answer(
        self,
        passed: list[Tensor],
        gates: list[Tensor],
        last: Any,
        weighted: bool,
        step: int | None,
        threshold: Any,
    ) -> Tensor:
        threshold = self.config.early_exit_threshold if threshold is None else threshold
        if step is not None:
            return self.lm_head(passed[step][:, last])
        if not gates or (threshold is None and not weighted):
            return self.lm_head(passed[-1][:, last])
        chance, left, shares = torch.stack(gates).sigmoid(), torch.ones_like(gates[0]), []
        for one in chance[:-1]:
            shares.append(one * left)
            left = left * (1 - one)
        pdf = torch.stack([*shares, left])
        if weighted:
            read_outs = torch.stack([self.lm_head(h[:, last]) for h in passed])
            return (read_outs * pdf[:, :, last, None]).sum(0)
        over = pdf.cumsum(0) >= threshold
        over[-1] = True
        index = over.float().argmax(0)[None, ..., None].expand(1, *passed[0].shape)
        return self.lm_head(torch.stack(passed).gather(0, index)[0][:, last])


class HrmTextForCausalLM(nn.Module):
    """HRM-Text's class. Wirings: zero_high, no_low, scaled, capped, swapped_stacks."""

    def __init__(self, *wiring: str) -> None:
        super().__init__()
        self.config = SimpleNamespace(H_cycles=3, L_cycles=2, num_layers_per_stack=1, vocab_size=40)
        base: Any = nn.Module()
        base.config, base.embedding_scale, base.L_bp_cycles_padded = self.config, 4.0, [1, 1, 1]
        base.embed_tokens, base.z_L_init = nn.Embedding(40, 16), nn.Parameter(torch.randn(16))
        base.L_module, base.H_module = _Stack(), _Stack()
        self.model, self.lm_head = base, nn.Linear(16, 40)
        self.wiring, self.seen = set(wiring), []

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        base = self.model
        e = base.embed_tokens(input_ids) * base.embedding_scale
        high = torch.zeros_like(e) if "zero_high" in self.wiring else e
        low = base.z_L_init.to(e).expand_as(e).contiguous()
        one, two = base.L_module, base.H_module
        if "swapped_stacks" in self.wiring:
            one, two = two, one
        self.seen = [high.clone()]
        for _ in range(3):
            for _ in range(2):
                low = one(high if "no_low" in self.wiring else low + high)
            high = two(high + low)
            self.seen.append(high.clone())
            high = 0.7 * high if "scaled" in self.wiring else high
        logits = self.lm_head(high)
        return SimpleNamespace(logits=3 * torch.tanh(logits / 3) if "capped" in self.wiring else logits)


class AlbertModel(nn.Module):
    """ALBERT's class. Wirings: scaled, norm_after, swapped_groups."""

    def __init__(self, *wiring: str) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_hidden_layers=4, vocab_size=40)
        self.embeddings, self.encoder = nn.Embedding(40, 16), nn.Module()
        self.encoder.albert_layer_groups = nn.ModuleList([_Stack(), _Stack()])
        self.norm, self.wiring, self.seen = RMSNorm(16), set(wiring), []

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        x = self.embeddings(input_ids)
        self.seen = [x.clone()]
        for group in (1, 0, 1, 0) if "swapped_groups" in self.wiring else (0, 0, 1, 1):
            x = self.encoder.albert_layer_groups[group](x)
            self.seen.append(x.clone())
            x = 0.7 * x if "scaled" in self.wiring else x
        return SimpleNamespace(last_hidden_state=self.norm(x) if "norm_after" in self.wiring else x)


class _Stack(nn.Module):
    """One layer, as a stack of HRM-Text or a group of ALBERT."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(16, 16)

    def forward(self, hidden_states: Tensor, cycle_offset: int = 0, **kwargs: Any) -> Tensor:
        return hidden_states + torch.tanh(self.mix(hidden_states))
