"""The loops of the zoo, of transformers and of other packages."""

import pytest
import torch

import loopscope as ls
from loopscope.loop_detection.loop_finder import find_loops

from ..toys.loop_modules import iterations, only


def tokens(positions=7):
    return torch.randint(0, 64, (2, positions), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "options", "body", "times"),
    [("universal", {"iterations": 5}, "core.0", 5), ("ouro", {}, "core", 4)],
)
def test_the_zoo_loops_as_its_cards_say(name, options, body, times):
    model = ls.models.build(name, **options).eval()
    x = tokens() % model.config.vocabulary
    loop = only(find_loops(model, x))
    assert loop.body[0] == body and loop.times == times
    assert iterations(model, loop, x) == times


def test_the_two_clocks_of_the_zoo_are_found():
    model = ls.models.build("hrm", segments=2).eval()
    loop = only(find_loops(model, tokens() % 5))
    assert (loop.times, loop.loops[0].times) == (model.config.iterations, model.config.low_updates)
    assert loop.inner == {"low": loop.body[0]}


def test_transformers_hrm_text():
    transformers = pytest.importorskip("transformers", minversion="5")
    HrmTextConfig, HrmTextForCausalLM = transformers.HrmTextConfig, transformers.HrmTextForCausalLM
    config = HrmTextConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        head_dim=8,
        H_cycles=2,
        L_cycles=3,
    )
    loop = only(find_loops(HrmTextForCausalLM(config).eval(), tokens()))
    assert (loop.body, loop.times) == (("model.L_module", "model.H_module"), 2)
    assert loop.inner == {"low": "model.L_module"} and loop.loops[0].times == 3


def test_transformers_albert():
    from transformers import AlbertConfig, AlbertForMaskedLM

    config = AlbertConfig(
        vocab_size=64,
        embedding_size=16,
        hidden_size=32,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=64,
    )
    model = AlbertForMaskedLM(config).eval()
    loop = only(find_loops(model, input_ids=tokens()))
    assert loop.suggestion == 'ls.wrap(model, body="albert.encoder.albert_layer_groups.0")'
    assert iterations(model, loop, tokens()) == loop.times == 6


def plain(name):
    import transformers

    small = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 1}
    if name == "GPT2":
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=32, n_layer=3, n_head=2, **small))
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, **small
        )
    )


@pytest.mark.parametrize("name", ["GPT2", "Llama"])
def test_plain_transformers_have_no_loop(name):
    assert not find_loops(plain(name).eval(), tokens())


def test_x_transformers():
    x = pytest.importorskip("x_transformers")
    looped = x.TransformerWrapper(
        num_tokens=64,
        max_seq_len=16,
        looped=True,
        max_looped_steps=4,
        attn_layers=x.Decoder(
            dim=32, depth=2, heads=2, pre_and_post_norm=True, rotary_pos_emb=True, use_rmsnorm=True
        ),
    ).eval()
    loop = only(find_loops(looped, tokens()))
    assert (loop.body, loop.times) == (("attn_layers",), 4)
    assert iterations(looped, loop, tokens()) == 4
    tied = x.TransformerWrapper(
        num_tokens=64, max_seq_len=16, attn_layers=x.Encoder(dim=32, depth=5, heads=2, weight_tie_layers=True)
    ).eval()
    loop = only(find_loops(tied, tokens()))
    assert loop.times == 5 and {"attn_layers.layers.0.1", "attn_layers.layers.1.1"} <= set(loop.body)
    assert iterations(tied, loop, tokens()) == 5


def test_tiny_recursive_model():
    trm = pytest.importorskip("tiny_recursive_model")
    network = trm.MLPMixer1D(dim=32, depth=2, seq_len=16)
    model = trm.TinyRecursiveModel(dim=32, num_tokens=64, network=network).eval()
    outputs, latents = model.get_initial()
    result = find_loops(model, tokens(16), outputs=outputs, latents=latents)
    loop = only(result)
    assert (loop.body, loop.times, loop.period) == (("network",), 21, 7)
    assert "only an adapter" in str(result)
    assert iterations(model, loop, tokens(16), outputs=outputs, latents=latents) == 21
