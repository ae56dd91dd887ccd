"""A generation from its file is the one that was saved: bit for bit, with the same interface."""

from typing import Any

import pytest
import torch
from torch import Tensor

import loopscope as ls
from loopscope.common.files import load_file, save_file
from loopscope.core.states import States
from loopscope.run_loading import named_run

from ..toys.small_models import hrm_text, wrapped_as

PROMPT = torch.tensor([[5, 6, 7, 5], [9, 3, 9, 3]])
SITES = ["lm_head", "model.L_module.layers.1.mlp"]
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "beams": {"num_beams": 3, "do_sample": False},
    "drafts": {"prompt_lookup_num_tokens": 3, "do_sample": False, "rows": 1},
    "rows that end": {
        "do_sample": True,
        "num_return_sequences": 3,
        "eos_token_id": [3, 4, 6, 8, 14, 21, 30],
        "pad_token_id": 0,
    },
    "part kept": {"keep": ls.keep.positions([0, -1]), "do_sample": False},
    "output as a dictionary": {"return_dict_in_generate": True, "output_scores": True, "do_sample": False},
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return hrm_text(eos_token_id=None, pad_token_id=0).eval()


def generated(wrapped: Any, **options: Any) -> Any:
    options = {"max_new_tokens": 4} | options
    return ls.generate(wrapped, PROMPT[: options.pop("rows", 2)], seed=4, sites=SITES, **options)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, States):
        alike = one.axes == other.axes and one.iterations == other.iterations
        return alike and same(one.tensor, other.tensor) and same(one.present, other.present)
    assert isinstance(one, Tensor)
    return one.dtype == other.dtype and torch.equal(*(x.contiguous().view(torch.uint8) for x in (one, other)))


@pytest.mark.parametrize(
    ("setting", "kind"),
    [(setting, "adapter") for setting in SETTINGS]
    + [("greedy", "body")]
    + [pytest.param(setting, "body", marks=pytest.mark.slow) for setting in SETTINGS if setting != "greedy"],
)
def test_saved_is_loaded_bit_for_bit(model, setting, kind, tmp_path):
    out = generated(wrapped_as(kind, model), **SETTINGS[setting])
    again = ls.load_run(out.save(tmp_path / "out.safetensors"))
    assert (repr(again), again.names, len(again)) == (repr(out), out.names, len(out))
    assert torch.equal(again.tokens, out.tokens)
    for name in ("passes", "rows", "positions"):
        assert torch.equal(getattr(again.places, name), getattr(out.places, name))
    for name in out.names:
        assert same(again[name], out[name])
    for one, other in zip(again, out, strict=True):
        assert {k: v for k, v in one.origin.items() if k != "config"} == {
            k: v for k, v in other.origin.items() if k != "config"
        }
        assert one.names == other.names
        assert all(same(one[name], other[name]) for name in one.names)
        assert same(one.output, other.output)
        assert torch.equal(one.mask, other.mask)
    for token in range(len(out.places)):
        assert same(again.at(token=token).states, out.at(token=token).states)
    if setting != "part kept":
        assert same(again.run.states, out.run.states)
        assert torch.equal(again.run.mask, out.run.mask)


def test_a_second_file_is_the_first_one(model, tmp_path):
    first = generated(ls.wrap(model)).save(tmp_path / "one.safetensors")
    second = ls.load_run(first).save(tmp_path / "two.safetensors")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("kind", ["adapter", "body"])
def test_with_its_model_it_reads_out_its_states(model, kind, tmp_path):
    wrapped = wrapped_as(kind, model)
    out = generated(wrapped)
    path = out.save(tmp_path / "out.safetensors")
    with pytest.raises(ls.LoopscopeError, match="loaded from a file and knows no model"):
        ls.load_run(path).at(token=2).logits[1]
    if kind == "adapter":
        again = ls.load_run(path, model=wrapped)
        for token in range(4):
            assert same(again.at(token=token).logits[1], out.at(token=token).logits[1])
        assert same(again.run.logits[1], out.run.logits[1])
    else:
        assert same(ls.load_run(path, model=wrapped).states, out.states)


def test_a_generation_with_edits_keeps_what_was_recorded_alone(model, tmp_path):
    wrapped, push = ls.wrap(model), ls.steer(torch.arange(16.0), norm=9, token=2, iteration=1)
    out = generated(wrapped, edits=[push])
    again = ls.load_run(out.save(tmp_path / "out.safetensors"), model=wrapped)
    assert [len(run.origin["edits"]) for run in again] == [0, 0, 1, 0]
    assert again.run.origin["edits"] == out.run.origin["edits"] == [str(push)]
    assert same(again.states, out.states)
    with pytest.raises(ls.LoopscopeError, match="has edits, whose values are not in its file"):
        again.at(token=2).logits[1]


def test_its_path_can_be_measured(model, tmp_path):
    out = generated(ls.wrap(model), do_sample=False)
    path = out.save(tmp_path / "out.safetensors")
    assert str(ls.analyses.measure("geometry", path)) == str(ls.analyses.measure("geometry", out))
    assert same(named_run(str(path)).states, out.run.states)


def test_another_model_is_refused(model, tmp_path):
    path = generated(ls.wrap(model)).save(tmp_path / "out.safetensors")
    torch.manual_seed(2)
    other = hrm_text(eos_token_id=None, pad_token_id=0).eval()
    with pytest.raises(ls.LoopscopeError, match="the model that made the run, with the weights"):
        ls.load_run(path, model=ls.wrap(other))


def test_passes_of_your_own_code_are_saved_too(model, tmp_path):
    with ls.recording(ls.wrap(model)) as out:
        model(PROMPT)
    again = ls.load_run(out.save(tmp_path / "out.safetensors"))
    assert again.tokens is None
    assert same(again.at(token=0).states, out.at(token=0).states)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda h: h["readings"].pop(), "whole generation, but it has 4 passes and 3 readings"),
        (lambda h: h["readings"][0].update(history="gone"), "pass 0 has no tensor 'gone'"),
        (lambda h: h["readings"][0].update(length=99), "pass 0 lacks the 99 tokens that it read"),
        (lambda h: h.update(ended=["xyz"]), "a sequence that ended isn't one of hexadecimal digits"),
        (lambda h: h.update(keep={"plain": 3}), "what was kept isn't a stride, a count and positions"),
        (lambda h: h.update(passes=3), "'passes' doesn't fit"),
        (lambda h: h["passes"][1].update(iterations=-1), "'iterations' doesn't fit"),
    ],
)
def test_a_file_that_does_not_fit_is_said(model, change, text, tmp_path):
    path = generated(ls.wrap(model)).save(tmp_path / "out.safetensors")
    tensors, header = load_file(path, "generation")
    change(header)
    with pytest.raises(ls.LoopscopeError, match=text):
        ls.load_run(save_file(path, tensors, header))
