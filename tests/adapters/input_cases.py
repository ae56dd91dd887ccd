"""For each adapted model: inputs of its forward, with values that change what it gives."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from ..toys import carry_doubles
from ..toys.nanbeige_double import NanbeigeForCausalLM
from ..toys.other_wirings import OuroForCausalLM, RavenForCausalLM
from ..toys.parcae_double import Parcae
from ..toys.small_models import albert, bridge, hrm_text, tiny_recursive, x_transformer
from ..toys.stack_doubles import GPT, MoEUTLM, future

BATCH, LENGTH, WIDTH, VOCABULARY = 2, 8, 16, 40


def tokens() -> torch.Tensor:
    return torch.randint(1, 38, (BATCH, LENGTH), generator=torch.Generator().manual_seed(5))


def embeds(width: int = WIDTH) -> torch.Tensor:
    return torch.randn(BATCH, LENGTH, width, generator=torch.Generator().manual_seed(6))


def mask() -> torch.Tensor:
    result = torch.ones(BATCH, LENGTH, dtype=torch.long)
    result[0, :3] = 0
    return result


HF: Mapping[str, Any] = {
    "attention_mask": mask(),
    "position_ids": torch.arange(LENGTH).flip(0)[None],
    "labels": tokens(),
    "output_hidden_states": True,
    "output_attentions": True,
    "return_dict": False,
    "num_items_in_batch": 3,
    "use_cache": True,
    "past_key_values": object(),
    "input_ids": tokens(),
    "temperature": 2.0,
}
"""Inputs that models of transformers share; `temperature` is one that nobody knows."""


def carry() -> carry_doubles.Carry:
    """Of an earlier call, whose first row has halted."""
    inner = carry_doubles.InnerCarry(
        *torch.stack([embeds(), embeds().flip(1)]).repeat(1, 1, 2, 1)[:, :, : LENGTH + 1]
    )
    data = {"inputs": tokens().flip(1), "puzzle_identifiers": torch.tensor([2, 3])}
    return carry_doubles.Carry(inner, torch.ones(BATCH).int(), torch.tensor([True, False]), data)


CARRY = {
    "batch": {"puzzle_identifiers": torch.tensor([1, 4])},
    "carry": carry(),
    "temperature": 2.0,
}

CAUSAL = {"logits_to_keep": 1, "cache_position": torch.arange(LENGTH) + 2}

MODELS: Mapping[str, tuple[Callable[[], nn.Module], Mapping[str, Any]]] = {
    "HrmTextForCausalLM": (
        hrm_text,
        {**HF, **CAUSAL, "token_type_ids": mask() * 0 + 1, "inputs_embeds": embeds()},
    ),
    "HrmTextModel": (
        lambda: hrm_text().model,
        {**HF, **CAUSAL, "token_type_ids": mask() * 0 + 1, "inputs_embeds": embeds()},
    ),
    "AlbertModel": (
        lambda: albert("AlbertModel"),
        {**HF, "token_type_ids": mask(), "inputs_embeds": embeds(8)},
    ),
    "AlbertPreTrainedModel": (
        lambda: albert("AlbertForPreTraining"),
        {
            **HF,
            "token_type_ids": mask(),
            "inputs_embeds": embeds(8),
            "sentence_order_label": torch.zeros(2).long(),
        },
    ),
    "OuroForCausalLM": (
        OuroForCausalLM,
        {
            **HF,
            **CAUSAL,
            "inputs_embeds": embeds(),
            "exit_at_step": 1,
            "exit_threshold": 0.6,
            "use_weighted_exit": True,
        },
    ),
    "NanbeigeForCausalLM": (NanbeigeForCausalLM, {**HF, **CAUSAL, "inputs_embeds": embeds()}),
    "RavenForCausalLM": (
        RavenForCausalLM,
        {
            **HF,
            **CAUSAL,
            "num_steps": 3,
            "input_states": embeds(),
            "init_scale": 0.5,
            "input_embeds": embeds(),
            "output_details": {"return_logits": True},
        },
    ),
    "Parcae": (
        Parcae,
        {
            "num_steps_pair": (2, 1),
            "attention_mask": mask(),
            "position_ids": torch.arange(LENGTH).flip(0),
            "return_logits": False,
            "labels": tokens(),
            "temperature": 2.0,
        },
    ),
    "TransformerWrapper": (
        lambda: x_transformer(looped=True),
        {
            "mask": mask().bool(),
            "attn_mask": torch.ones(LENGTH, LENGTH).tril(-1).bool() | torch.eye(LENGTH).bool(),
            "pos": torch.arange(LENGTH).flip(0),
            "sum_embeds": embeds(),
            "prepend_embeds": embeds()[:, :2],
            "seq_start_pos": torch.tensor([0, 2]),
            "looped_steps": 2,
            "max_looped_steps": 3,
            "looped_inference": True,
            "looped_pred_all_logits": True,
            "looped_exit_prob_threshold": 0.1,
            "return_embeddings": True,
            "return_intermediates": True,
            "return_attn": True,
            "return_logits_and_embeddings": True,
            "return_logit_entropies": True,
            "return_mems": True,
            "mems": [embeds()],
            "cache": object(),
            "recycle_steps": 2,
            "transform_token_embeds": torch.sin,
            "token_emb_kwargs": {"sum_discrete_embeds": True},
            "temperature": 2.0,
        },
    ),
    "tied TransformerWrapper": (
        lambda: x_transformer(looped=False),
        {
            "mask": mask().bool(),
            "pos": torch.arange(LENGTH).flip(0),
            "sum_embeds": embeds(),
            "prepend_embeds": embeds()[:, :2],
            "return_embeddings": True,
            "temperature": 2.0,
        },
    ),
    "TinyRecursiveModel": (
        tiny_recursive,
        {"outputs": embeds(), "latents": embeds(), "labels": tokens(), "temperature": 2.0},
    ),
    "MoEUTLM": (
        MoEUTLM,
        {
            "mask": SimpleNamespace(position_mask=future(LENGTH), src_length_mask=mask().flip(1) == 0),
            "kv_cache": {},
            "temperature": 2.0,
        },
    ),
    "GPT": (
        GPT,
        {
            "num_recur": 6,
            "warm_start_state": embeds()[:, :1],
            "targets": tokens(),
            "kv_cache": object(),
            "loss_reduction": "sum",
            "return_intermediate_logits": True,
            "return_intermediate_states": True,
            "temperature": 2.0,
        },
    ),
    "TransformerBridge": (
        bridge,
        {**HF, **CAUSAL, "return_type": "loss", "stop_at_layer": 1, "loss_per_token": True},
    ),
    "HierarchicalReasoningModel_ACTV1": (carry_doubles.HierarchicalReasoningModel_ACTV1, CARRY),
    "TinyRecursiveReasoningModel_ACTV1": (carry_doubles.TinyRecursiveReasoningModel_ACTV1, CARRY),
}
"""By name of a family: how to build a model of it, and its inputs."""
