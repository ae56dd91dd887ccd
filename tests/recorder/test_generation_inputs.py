"""What generate and record take as tokens and options: one reading, or a sentence."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BatchEncoding

import loopscope as ls

from ..toys.small_models import hrm_text

TOKENS = torch.tensor([[5, 6, 7, 5], [9, 3, 9, 3]])
MASK = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return hrm_text(eos_token_id=None, pad_token_id=0).eval()


@pytest.fixture(params=["adapter", "body"])
def wrapped(model, request):
    return ls.wrap(model) if request.param == "adapter" else ls.wrap(model, body="model.H_module")


def recorded(wrapped: Any, tokens: Any, **inputs: Any) -> Any:
    return ls.record(wrapped, tokens, **inputs).states[2]


def generated(wrapped: Any, tokens: Any, **inputs: Any) -> Any:
    return ls.generate(wrapped, tokens, max_new_tokens=2, do_sample=False, **inputs).states[1, 2]


WAYS = pytest.mark.parametrize("way", [recorded, generated])
FORMS = {
    "nested lists": lambda t, m: t.tolist(),
    "nested tuples": lambda t, m: tuple(map(tuple, t.tolist())),
    "an array": lambda t, m: t.numpy(),
    "an array of int32": lambda t, m: t.numpy().astype(np.int32),
    "a tensor of int16": lambda t, m: t.short(),
    "a list of arrays": lambda t, m: list(t.numpy()),
}
ENCODINGS = {
    "a tokenizer's output": lambda t, m: BatchEncoding({"input_ids": t, "attention_mask": m}),
    "a dictionary": lambda t, m: {"input_ids": t, "attention_mask": m},
    "a tokenizer's lists": lambda t, m: BatchEncoding(
        {"input_ids": t.tolist(), "attention_mask": m.tolist()}
    ),
    "a tokenizer's arrays": lambda t, m: BatchEncoding({"input_ids": t.numpy(), "attention_mask": m.numpy()}),
}


@WAYS
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_tokens_gives_the_same(wrapped, way, form):
    assert torch.equal(way(wrapped, FORMS[form](TOKENS, MASK)), way(wrapped, TOKENS))


@WAYS
@pytest.mark.parametrize("form", ENCODINGS)
def test_a_tokenizers_output_gives_tokens_and_mask(wrapped, way, form):
    right = way(wrapped, TOKENS, attention_mask=MASK)
    assert torch.equal(way(wrapped, ENCODINGS[form](TOKENS, MASK)), right)
    assert not torch.equal(right, way(wrapped, TOKENS))


@WAYS
def test_the_output_for_one_text_is_one_row(wrapped, way):
    row = BatchEncoding({"input_ids": TOKENS[0].tolist(), "attention_mask": [1, 1, 1, 1]})
    assert torch.equal(way(wrapped, row), way(wrapped, TOKENS[:1]))


def test_the_difference_of_an_adapter_takes_it_too(model):
    assert ls.wrap(model).difference(BatchEncoding({"input_ids": TOKENS, "attention_mask": MASK})) == 0


@WAYS
@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("some text", "reads tokens, but got text: 'some text'. Pass the model's tokenizer too"),
        (["some", "text"], "reads tokens, but got text"),
        (b"text", "reads tokens, but got text"),
        (np.array(["text"]), "must be numbers"),
        ([[1, 2], [3]], "must be of one length .* these differ. Pad them"),
        (BatchEncoding({"input_ids": [[1, 2], [3]]}), "must be of one length"),
        ([torch.tensor([1, 2]), torch.tensor([3])], "must be of one length"),
        ([1, 2, 3], r"shape \(batch, position\) .* got \(3,\). Add the missing axis, e.g. tokens\[None\]"),
        (torch.tensor([1, 2, 3]), r"got \(3,\). Add the missing axis"),
        (torch.tensor(3), r"got \(\). Add the missing axis"),
        (TOKENS[None], r"got \(1, 2, 4\). Drop an axis"),
        (TOKENS.float(), r"needs integer tokens \(int64\), but got torch.float32"),
        ([[1.5, 2.0]], "needs integer tokens"),
        (TOKENS > 5, "needs integer tokens"),
        (TOKENS + 0j, "needs integer tokens"),
        (
            TOKENS + 40,
            r"needs tokens in 0\.\.39, but they reach from 43 to 49. Use the tokens of the model's",
        ),
        (TOKENS - 9, r"needs tokens in 0\.\.39"),
        (TOKENS[:0], r"at least one sequence .* got \(0, 4\)"),
        (TOKENS[:, :0], r"at least one position, but got \(2, 0\)"),
        ([], "needs its tokens as a Tensor of integers .* got a list"),
        ([[]], "needs its tokens as a Tensor of integers"),
        (None, "needs its tokens as a Tensor of integers .* got a NoneType"),
        (3, "needs its tokens as a Tensor of integers .* got a int"),
        ({1, 2}, "needs its tokens as a Tensor of integers .* got a set"),
        ({"tokens": TOKENS}, r"got a dict of \['tokens'\]"),
        (TOKENS.to("meta"), "a tensor on the device meta"),
    ],
)
def test_tokens_without_one_reading_are_refused_in_a_sentence(wrapped, way, tokens, text):
    with pytest.raises(ls.LoopscopeError, match=text):
        way(wrapped, tokens)


@WAYS
@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"attention_mask": MASK}, r"must come once, but \['attention_mask'\]"),
        ({"attention_mask": MASK[:, :2]}, r"so the shape \(2, 4\), but has \(2, 2\)"),
    ],
)
def test_a_mask_must_fit_and_come_once(wrapped, way, inputs, text):
    tokens: Any = {"input_ids": TOKENS, "attention_mask": MASK} if "once" in text else TOKENS
    with pytest.raises(ls.LoopscopeError, match=text):
        way(wrapped, tokens, **inputs)


def test_a_module_takes_a_dictionary_of_its_own():
    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(4, 4)

        def forward(self, batch):
            h = batch["x"] + batch["input_ids"][..., None]
            for _ in range(3):
                h = self.body(h)
            return h

    batch = {"x": torch.randn(2, 3, 4), "input_ids": torch.ones(2, 3)}
    assert ls.record(ls.wrap(Doubling(), body="body"), batch).iterations == 3


@pytest.mark.parametrize("keys", [["input_ids", "attention_mask"], ["input_ids"]])
def test_a_zoo_model_takes_tokens_alone(keys):
    zoo = ls.models.load("universal-prefix-parity")
    tokens = zoo.task.batch(2, seed=0).tokens
    encoding = dict.fromkeys(keys, tokens)
    if len(keys) == 1:
        assert torch.equal(ls.record(zoo, encoding, 2).output, ls.record(zoo, tokens, 2).output)
    else:
        with pytest.raises(ls.LoopscopeError, match=r"takes tokens alone, but \['attention_mask'\]"):
            ls.record(zoo, encoding, 2)


@pytest.mark.parametrize("offload", ["cpu_offload", "disk_offload"])
@pytest.mark.parametrize("kind", ["adapter", "body"])
def test_offloaded_weights_give_the_same(model, offload, kind, tmp_path):
    import accelerate

    def wrapped(module: Any) -> Any:
        return ls.wrap(module) if kind == "adapter" else ls.wrap(module, body="model.H_module")

    with torch.no_grad():
        model.model.z_L_init.normal_(generator=torch.Generator().manual_seed(0))
    away = copy.deepcopy(model)
    where = [tmp_path] if offload == "disk_offload" else []
    getattr(accelerate, offload)(away, *where, execution_device="cpu")
    assert all(parameter.is_meta for parameter in away.parameters())
    options = {"max_new_tokens": 3, "do_sample": False, "attention_mask": torch.ones_like(TOKENS)}
    one, other = (ls.generate(wrapped(m), TOKENS, **options) for m in (model, away))
    assert torch.equal(one.tokens, other.tokens)
    for name in one.names:
        assert torch.allclose(one[name].tensor, other[name].tensor, atol=0, rtol=0, equal_nan=True)
    assert all(parameter.is_meta for parameter in away.parameters())
    assert torch.equal(recorded(wrapped(away), TOKENS), recorded(wrapped(model), TOKENS))


@WAYS
def test_weights_on_meta_are_refused(wrapped, way, model):
    away = copy.deepcopy(model).to("meta")
    empty = ls.wrap(away) if hasattr(wrapped, "encode") else ls.wrap(away, body="model.H_module")
    with pytest.raises(ls.LoopscopeError, match="weights of HrmTextForCausalLM must be loaded"):
        way(empty, TOKENS)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"max_new_tokens": 0},
            r"raised ValueError: `max_new_tokens` must be greater than 0, but is 0\. Leave",
        ),
        ({"max_new_tokens": 1.5}, "max_new_tokens must be a whole number, but is 1.5"),
        ({"max_new_tokens": "3"}, "max_new_tokens must be a whole number"),
        ({"num_beams": True}, "num_beams must be a whole number"),
        ({"use_cache": "maybe"}, "use_cache must be True or False"),
        ({"nonsense": 3}, r"are not used by the model: \['nonsense'\]"),
        ({"temperature": -1.0, "do_sample": True}, "`temperature`"),
        ({"stopping_criteria": 3}, "must take these options"),
        ({"assistant_model": 3}, "must take these options"),
        ({"streamer": 3}, "must take these options"),
        ({"generation_config": {"a": 1}}, "must take these options"),
        ({"eos_token_id": "x"}, "must take these options"),
        ({"num_return_sequences": 2}, "num_return_sequences"),
        ({"prompt_lookup_num_tokens": 2}, "batch_size = 1"),
        ({"input_ids": TOKENS}, "must take these options"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"sites": 3}, "sites must be"),
        ({"keep": 3}, "keep must be"),
    ],
)
def test_options_that_do_not_fit_are_said(model, options, text):
    with pytest.raises(ls.LoopscopeError, match=text):
        ls.generate(ls.wrap(model), TOKENS, **({"max_new_tokens": 2, "do_sample": False} | options))
