"""Models of other packages with small random weights, made without a network."""

from functools import cache
from tempfile import mkdtemp
from typing import Any

import pytest
from torch import nn


def hrm_text(**options: Any) -> Any:
    try:
        from transformers import HrmTextConfig, HrmTextForCausalLM
    except ImportError:
        pytest.skip("this transformers is too old for HRM-Text")
    config = {
        "vocab_size": 40,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "head_dim": 8,
        "H_cycles": 2,
        "L_cycles": 3,
        "bos_token_id": 0,
        "eos_token_id": 39,
        "pad_token_id": 39,
    }
    return HrmTextForCausalLM(HrmTextConfig(**(config | options)))


def wrapped_as(kind: str, model: Any) -> Any:
    """An HRM-Text by its adapter, or by the part that ends an iteration."""
    import loopscope as ls

    return ls.wrap(model) if kind == "adapter" else ls.wrap(model, body="model.H_module")


def albert(kind: str = "AlbertForMaskedLM", **options: Any) -> Any:
    import transformers

    config = {
        "vocab_size": 40,
        "embedding_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 6,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "hidden_dropout_prob": 0.1,
    }
    return getattr(transformers, kind)(transformers.AlbertConfig(**(config | options)))


def x_transformer(looped: bool, **options: Any) -> Any:
    from x_transformers import Decoder, Encoder, TransformerWrapper

    shape = {"dim": 16, "heads": 2, "attn_dim_head": 8, "ff_dropout": 0.1}
    if looped:
        layers: Any = Decoder(depth=2, pre_and_post_norm=True, use_rmsnorm=True, **(shape | options))
        return TransformerWrapper(
            num_tokens=40,
            max_seq_len=32,
            looped=True,
            max_looped_steps=4,
            emb_dropout=0.1,
            attn_layers=layers,
        )
    layers = Encoder(**({"depth": 5} | shape | {"weight_tie_layers": True} | options))
    return TransformerWrapper(num_tokens=40, max_seq_len=32, emb_dropout=0.1, attn_layers=layers)


def tiny_recursive() -> nn.Module:
    from tiny_recursive_model import MLPMixer1D, TinyRecursiveModel

    return TinyRecursiveModel(dim=16, num_tokens=40, network=MLPMixer1D(dim=16, depth=1, seq_len=8))


@cache
def hrm_text_folder() -> str:
    """A tiny HRM-Text with a tokenizer, as `save_pretrained` leaves them."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    folder = mkdtemp()
    with torch.random.fork_rng():
        torch.manual_seed(7)
        hrm_text().save_pretrained(folder)
    words = {f"w{i}": i for i in range(38)} | {"<unk>": 38, "<eos>": 39}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>", bos_token="<eos>", pad_token="<eos>"
    ).save_pretrained(folder)
    return folder


def bridge() -> Any:
    """TransformerLens' bridge around it."""
    folder = hrm_text_folder()  # which skips where there is no HRM-Text
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import HrmTextForCausalLM

    return TransformerBridge.boot_transformers(folder, hf_model=HrmTextForCausalLM.from_pretrained(folder))
