"""Text with a tokenizer: the same as its tokens by hand, with masks and names, or a sentence."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import loopscope as ls
from loopscope.core.token_names import readable, token_names
from loopscope.recorder.labels import example_names, inputs_of, position_names
from loopscope.reports import answers

from ..toys.small_models import albert, hrm_text, x_transformer
from ..toys.text_tokenizers import bytes_tokenizer, looped_gpt2, words_tokenizer

TEXTS = ["The loop", "Once the loop has come to rest"]


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        hrm = hrm_text(vocab_size=320, eos_token_id=None, pad_token_id=None).eval()
        return {
            "HRM-Text": ls.wrap(hrm),
            "HRM-Text by its body": ls.wrap(hrm, body="model.H_module"),
            "ALBERT": ls.wrap(albert(vocab_size=320).eval()),
            "a looped GPT-2": ls.wrap(looped_gpt2(320), body="transformer.h.0"),
        }


@pytest.fixture
def hrm(models: dict[str, Any]) -> Any:
    return models["HRM-Text"]


KINDS = pytest.mark.parametrize("kind", ["HRM-Text", "HRM-Text by its body", "ALBERT", "a looped GPT-2"])


def with_pad() -> Any:
    tokenizer = copy.deepcopy(bytes_tokenizer())
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


# The same as the tokens by hand


@KINDS
@pytest.mark.parametrize("make", [bytes_tokenizer, words_tokenizer])
def test_a_text_gives_what_its_tokens_give(models, kind, make):
    tokenizer, model = make(), models[kind]
    by_hand = ls.record(model, torch.tensor([tokenizer(TEXTS[1]).input_ids]))
    run = ls.record(model, TEXTS[1], tokenizer=tokenizer)
    assert torch.equal(run.states[-1], by_hand.states[-1])
    assert torch.equal(ls.record(model, [TEXTS[1]], tokenizer=tokenizer).states[-1], by_hand.states[-1])
    encoded = tokenizer(TEXTS[1], return_tensors="pt")
    assert torch.equal(ls.record(model, encoded).tokens, run.tokens)


@pytest.mark.parametrize("side", ["left", "right"])
def test_each_of_several_texts_is_read_as_alone(hrm, side):
    tokenizer = with_pad()
    tokenizer.padding_side = side
    run = ls.record(hrm, TEXTS, tokenizer=tokenizer)
    expected = tokenizer(TEXTS, return_tensors="pt", padding=True)["attention_mask"].bool()
    assert torch.equal(run.mask, expected) and not run.mask.all()
    for row, text in enumerate(TEXTS):
        alone = ls.record(hrm, text, tokenizer=tokenizer).states[-1][0]
        torch.testing.assert_close(run.states[-1][row][run.mask[row]], alone, atol=1e-4, rtol=1e-4)


def test_special_tokens_can_be_left_out_of_what_counts(models):
    tokenizer = words_tokenizer()
    texts = ["The loop 7", "Once the loop has [MASK] to rest"]
    run = ls.record(models["ALBERT"], texts, tokenizer=tokenizer, count_special=False)
    strings = inputs_of(run)
    assert strings is not None and strings[0][:5] == ["[CLS]", "the", "loop", "[UNK]", "[SEP]"]
    counts = [[s not in ("[CLS]", "[SEP]", "[PAD]") for s in row] for row in strings]
    assert run.mask.tolist() == counts
    assert "[MASK]" in strings[1] and "special tokens" in run.counted.source
    ids = tokenizer(texts, padding=True)["input_ids"]
    same = ls.record(models["ALBERT"], ids, tokenizer=tokenizer, count_special=False)
    assert torch.equal(same.mask, run.mask)
    assert ls.record(models["ALBERT"], texts, tokenizer=tokenizer).mask.sum() > run.mask.sum()


# Names


def test_names_read_as_the_text_does(hrm):
    tokenizer, text = bytes_tokenizer(), "The loop's\tfirst guess: 7"
    run = ls.record(hrm, text, tokenizer=tokenizer)
    rows = inputs_of(run)
    assert rows is not None and "".join(rows[0]) == text
    assert example_names(run, [0])[0].startswith("example 0: ")
    part = token_names(tokenizer)[str(tokenizer("日").input_ids[0])]
    assert part == tokenizer.convert_ids_to_tokens(tokenizer("日").input_ids[0])


@pytest.mark.parametrize(
    ("string", "bytewise", "name"),
    [("Ġthe", True, " the"), ("Ã©", True, "é"), ("Ã", True, "Ã"), ("日", True, "日"),
     ("▁the", False, " the"), ("##ing", False, "##ing"), ("Ġabra", False, "Ġabra")],
)  # fmt: skip
def test_a_string_reads_as_in_a_text(string, bytewise, name):
    assert readable(string, bytewise=bytewise) == name


def test_names_are_saved_with_a_run_and_need_no_tokenizer_again(hrm, tmp_path):
    run = ls.record(hrm, TEXTS, tokenizer=with_pad())
    again = ls.load_run(run.save(tmp_path / "run.safetensors"))
    assert inputs_of(again) == inputs_of(run)
    assert again.origin["token_strings"] == dict(token_names(bytes_tokenizer()))


def test_a_lens_and_effects_name_what_they_show(hrm):
    tokenizer = words_tokenizer(further=("<script>alert(1)</script>",))
    run = ls.record(hrm, "the <script>alert(1)</script> loop", tokenizer=tokenizer)
    section = answers.section(run)
    assert section is not None
    shown = str(section.panels[0].frames[0].update)
    assert "&lt;script&gt;alert(1)" in shown and "<script>" not in shown
    assert torch.isfinite(ls.lens(run).entropy()).all()
    other = ls.record(hrm, "the <script>alert(1)</script> rest", tokenizer=tokenizer)
    grid = ls.effects(run, other, positions=[2, 3], metric=lambda logits: logits[:, -1, 0])
    assert grid.mean[0, 0, 0] == 0 != grid.mean[0, 0, 1]  # only the second of these words differs


# Embeddings in place of tokens


@pytest.mark.parametrize("kind", ["HRM-Text", "ALBERT", "a looped GPT-2"])
def test_embeddings_in_place_of_tokens_give_the_same(models, kind):
    model = models[kind]
    tokens = torch.tensor([[5, 6, 7, 8], [9, 3, 9, 3]])
    embeddings = model.module.get_input_embeddings()(tokens).detach()
    run = ls.record(model, None, inputs_embeds=embeddings)
    assert torch.equal(run.states[-1], ls.record(model, tokens).states[-1])
    assert inputs_of(run) is None and position_names(run, 4) == ["0", "1", "2", "3"]
    prompt = torch.cat([torch.zeros(2, 3, embeddings.shape[-1]), embeddings], 1)
    mask = torch.tensor([[1] * 7, [0, 0] + [1] * 5])
    soft = ls.record(model, None, inputs_embeds=prompt, attention_mask=mask)
    assert soft.states.shape[2] == 7 and torch.equal(soft.mask, mask.bool())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda: ls.models.build("universal", vocabulary=9, width=8, heads=2),
            "takes tokens alone, but .'inputs_embeds'. were passed too. Leave them out",
        ),
        (
            lambda: ls.wrap(x_transformer(looped=True)),
            "takes no .'inputs_embeds'.|doesn't know 'inputs_embeds'",
        ),
    ],
)
def test_a_model_that_takes_no_embeddings_says_so(make, reason):
    with torch.random.fork_rng(), pytest.raises(ls.LoopscopeError, match=reason):
        ls.record(make(), None, inputs_embeds=torch.zeros(1, 3, 8))


def test_embeddings_passed_as_tokens_are_pointed_to_their_name(hrm):
    with pytest.raises(ls.LoopscopeError, match=r"record\(model, None, inputs_embeds="):
        ls.record(hrm, torch.zeros(1, 3, 16))


# Generation


def test_texts_are_generated_from_as_their_tokens(hrm):
    tokenizer = with_pad()
    tokenizer.padding_side = "right"
    out = ls.generate(hrm, TEXTS, tokenizer=tokenizer, max_new_tokens=3, do_sample=False)
    tokenizer.padding_side = "left"
    encoded = tokenizer(TEXTS, return_tensors="pt", padding=True)
    by_hand = ls.generate(hrm, encoded, max_new_tokens=3, do_sample=False)
    assert torch.equal(out.tokens, by_hand.tokens) and torch.equal(out.states[2, 2], by_hand.states[2, 2])
    names = token_names(tokenizer)
    assert inputs_of(out.at(token=0)) == [
        [names[str(t)] for t in row] for row in encoded["input_ids"].tolist()
    ]
    assert inputs_of(out.at(token=2)) == [[names[str(t)]] for t in out.tokens[:, -2].tolist()]


def test_the_padding_side_of_a_tokenizer_is_left_as_it_was(hrm):
    tokenizer = with_pad()
    ls.generate(hrm, TEXTS, tokenizer=tokenizer, max_new_tokens=1)
    assert tokenizer.padding_side == "right"


def test_an_option_that_needs_the_tokenizer_gets_it(hrm):
    tokenizer = bytes_tokenizer()
    options = {"tokenizer": tokenizer, "do_sample": False}
    free = ls.generate(hrm, "Once", max_new_tokens=4, **options)
    first = tokenizer.decode(free.tokens[0, 4:5])
    stopped = ls.generate(hrm, "Once", max_new_tokens=4, stop_strings=[first], **options)
    assert stopped.tokens.tolist() == free.tokens[:, :5].tolist()


# What has no one reading


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        ("", r"at least one token, but text 0 \(''\)"),
        (["The loop", ""], r"at least one token, but text 1 \(''\)"),
        (b"The loop", "text 0 is bytes"),
        (["The loop", b"x"], "text 1 is bytes"),
        (["The loop", 3], "text 1 is int"),
        (["The loop", ["x"]], "text 1 is list"),
        (TEXTS, "of 2 to 13 tokens must be padded to one length, but the tokenizer has no pad token"),
    ],
)
@pytest.mark.parametrize("way", [ls.record, ls.generate])
def test_texts_that_have_no_one_reading_are_refused(hrm, way, tokens, reason):
    with pytest.raises(ls.LoopscopeError, match=reason):
        way(hrm, tokens, tokenizer=bytes_tokenizer())


def test_text_needs_a_tokenizer_of_transformers(hrm):
    tokenizer = bytes_tokenizer()
    for way in (ls.record, ls.generate):
        with pytest.raises(ls.LoopscopeError, match="got text: 'Once'. Pass the model's tokenizer"):
            way(hrm, "Once")
        with pytest.raises(ls.LoopscopeError, match=r"PreTrainedTokenizerFast\(tokenizer_object=tokenizer\)"):
            way(hrm, "Once", tokenizer=tokenizer.backend_tokenizer)
        with pytest.raises(ls.LoopscopeError, match="but is str"):
            way(hrm, "Once", tokenizer="gpt2")
    with pytest.raises(ls.LoopscopeError, match="no tokenizer that names them"):
        ls.record(hrm, torch.tensor([[1]]), count_special=False)


def test_a_tokenizer_of_another_vocabulary_is_refused(models):
    tokenizer = copy.deepcopy(bytes_tokenizer())
    tokenizer.add_tokens([f"word{i}" for i in range(30)])
    with pytest.raises(ls.LoopscopeError, match="tokens in 0..319, but they reach from .* Use the tokens of"):
        ls.record(models["HRM-Text"], "word29", tokenizer=tokenizer)
    assert token_names(tokenizer)["329"] == "word29"


def test_a_generate_of_transformers_gets_the_mask_of_texts_without_padding(monkeypatch):
    """It would guess one from the tokens, with a warning where padding and end are one token."""
    tokenizer, model = bytes_tokenizer(), looped_gpt2()
    given: list[Any] = []
    generate = model.generate

    def spy(tokens: Tensor, **options: Any) -> Any:
        given.append(options.get("attention_mask"))
        return generate(tokens, **options)

    monkeypatch.setattr(model, "generate", spy)
    out = ls.generate(ls.wrap(model, body="transformer.h.0"), "A loop", tokenizer=tokenizer, max_new_tokens=1)
    assert given[0].equal(torch.ones_like(out.prompt))
