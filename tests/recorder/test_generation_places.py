"""Passes aren't tokens: in every setting of generate, a token's states are those of a plain pass
over the tokens before it."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import loopscope as ls

from ..toys.small_models import hrm_text, wrapped_as

PROMPT = torch.tensor([[5, 6, 7, 5, 6, 7, 5, 6], [9, 3, 9, 3, 9, 3, 9, 3]])
ENDS = [3, 4, 6, 8, 14, 21, 30]
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "no cache": {"use_cache": False},
    "sampling": {"do_sample": True},
    "several samples of a prompt": {"do_sample": True, "num_return_sequences": 3},
    "beams": {"num_beams": 4},
    "beams without a cache": {"num_beams": 4, "use_cache": False},
    "several beams returned": {"num_beams": 4, "num_return_sequences": 3},
    "sampled beams": {"do_sample": True, "num_beams": 3, "num_return_sequences": 2},
    "beams that end": {"num_beams": 3, "num_return_sequences": 3, "eos_token_id": ENDS, "pad_token_id": 0},
    "rows that end": {
        "do_sample": True,
        "num_return_sequences": 4,
        "eos_token_id": ENDS,
        "pad_token_id": 0,
    },
    "prompt in chunks": {"prefill_chunk_size": 3},
    "cache of fixed length": {"cache_implementation": "static"},
    "guidance": {"guidance_scale": 1.5},
    "guidance away from the same prompt": {"guidance_scale": 1.5, "negative_prompt_ids": PROMPT},
    "guidance without a cache": {"guidance_scale": 1.5, "use_cache": False},
    "penalties": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    "output as a dictionary": {"return_dict_in_generate": True, "output_scores": True},
    "drafts from the prompt": {"prompt_lookup_num_tokens": 3, "rows": 1},
    "sampled drafts": {"prompt_lookup_num_tokens": 3, "do_sample": True, "rows": 1},
    "an assistant": {"assistant": "other", "rows": 1},
    "an assistant that is right": {"assistant": "same", "rows": 1},
    "an assistant that is wrong": {"assistant": "random", "rows": 1},
    "a sampling assistant": {"assistant": "other", "do_sample": True, "rows": 1},
    "the model as its own assistant": {"assistant": "own", "rows": 1},
}


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(1)
    own = hrm_text(eos_token_id=None, pad_token_id=0).eval()
    other, random = copy.deepcopy(own), hrm_text(eos_token_id=None, pad_token_id=0).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return SimpleNamespace(own=own, same=copy.deepcopy(own), other=other, random=random)


def generated(models: Any, kind: str, setting: str, **more: Any) -> Any:
    options = {"do_sample": False, "max_new_tokens": 6} | SETTINGS[setting] | more
    prompt = PROMPT[: options.pop("rows", 2)]
    if "assistant" in options:
        options["assistant_model"] = getattr(models, options.pop("assistant"))
    return ls.generate(wrapped_as(kind, models.own), prompt, seed=4, **options)


def expected(kind: str, model: Any, out: Any) -> Any:
    """A plain pass over what was returned: the model is causal, so that a position's state is that
    of the tokens up to it."""
    return ls.record(wrapped_as(kind, model), out.tokens[:, :-1])


def length(row: Tensor, ends: list[int]) -> int:
    """New tokens up to the first end."""
    new = row[PROMPT.shape[1] :].tolist()
    return next((j + 1 for j, token in enumerate(new) if token in ends), len(new))


@pytest.mark.parametrize(
    ("setting", "kind"),
    [(setting, "adapter") for setting in SETTINGS]
    + [(setting, "body") for setting in ("greedy", "beams that end", "an assistant", "prompt in chunks")],
)
def test_a_tokens_states_are_those_of_the_tokens_before_it(models, setting, kind):
    out = generated(models, kind, setting)
    whole, prompt = expected(kind, models.own, out), PROMPT.shape[1]
    count, states = out.tokens.shape[1] - prompt, out.states
    lengths = [length(row, SETTINGS[setting].get("eos_token_id", [])) for row in out.tokens]
    assert states.shape[:3] == (count, len(whole.states), len(out.tokens))
    for token in range(count):
        run = out.at(token=token)
        there = [row for row in range(len(out.tokens)) if token < lengths[row]]
        gone = [row for row in range(len(out.tokens)) if token >= lengths[row]]
        for k in whole.states.iterations:
            right = whole.states[k][:, prompt + token - 1]
            assert torch.allclose(states[token, k][there], right[there], atol=1e-5)
            assert torch.allclose(run.states[k][there, -1], right[there], atol=1e-5)
            assert states[token, k][gone].isnan().all()
            assert run.states[k][gone].isnan().all()
        assert states.present[token, 1].nonzero()[:, 0].tolist() == there
        assert run.states.present[1].nonzero()[:, 0].tolist() == there


@pytest.mark.parametrize(
    "setting", ["greedy", "no cache", "beams", "drafts from the prompt", "prompt in chunks"]
)
def test_a_plain_pass_over_the_prefix_alone_has_the_same_states(models, setting):
    out = generated(models, "adapter", setting)
    for token in (0, 3, 5):
        for row in range(len(out.tokens)):
            prefix = out.tokens[row : row + 1, : PROMPT.shape[1] + token]
            alone = ls.record(ls.wrap(models.own), prefix)
            for k in range(3):
                assert torch.allclose(out.states[token, k][row], alone.states[k][0, -1], atol=1e-5)


@pytest.mark.parametrize(
    "setting", ["greedy", "no cache", "drafts from the prompt", "an assistant", "prompt in chunks"]
)
def test_the_last_state_gives_the_token(models, setting):
    """Greedy: the token is the likeliest one after the state from which it was read."""
    out = generated(models, "adapter", setting)
    for token in range(6):
        run = out.at(token=token)
        likeliest = run.logits[run.iterations][:, -1].argmax(-1)
        assert torch.equal(likeliest, out.tokens[:, PROMPT.shape[1] + token])
        assert torch.equal(run.output[:, -1].argmax(-1), likeliest)


def test_places_say_pass_row_and_position(models):
    out = generated(models, "adapter", "an assistant that is right")
    places = out.places
    for token in range(6):
        number, row, position = (
            int(part[token, 0]) for part in (places.passes, places.rows, places.positions)
        )
        assert torch.equal(out.runs[number].states[1][row, position], out.states[token, 1][0])
    assert len(out) < 6  # fewer passes than tokens
    assert repr(out).startswith(f"Generation · 6 tokens by {len(out)} passes")
    assert out.runs[1].origin["pass"].startswith("1: positions ")


def test_a_site_is_read_at_the_tokens_place_too(models):
    site = "model.L_module.layers.1.mlp"
    out = generated(models, "adapter", "beams", sites=[site])
    whole = ls.record(ls.wrap(models.own), out.tokens[:, :-1], sites=[site])
    assert out[site].axes == ("token", "iteration", "low", "batch", "width")
    for token in range(6):
        right = whole[site].tensor[:, :, :, PROMPT.shape[1] + token - 1]
        assert torch.allclose(out[site][token], right, atol=1e-5)


@pytest.mark.parametrize(
    "keep",
    [
        ls.keep.positions(-1),
        ls.keep.positions(slice(-1, None)),
        ls.keep.positions([0, -1]),
        ls.keep.last(1),
        ls.keep.every(2),
    ],
)
def test_what_is_kept_of_a_pass_is_read_where_the_token_was(models, keep):
    full, part = generated(models, "adapter", "greedy"), generated(models, "adapter", "greedy", keep=keep)
    for token in range(6):
        for k in part.at(token=token).states.iterations:
            assert torch.equal(part.states[token, k], full.states[token, k])


def test_positions_that_were_not_kept_are_not_replaced_by_others(models):
    out = generated(models, "adapter", "no cache", keep=ls.keep.positions(0))
    with pytest.raises(ls.LoopscopeError, match=r"kept at the positions from which tokens were read"):
        _ = out.states
    drafts = generated(models, "adapter", "drafts from the prompt", keep=ls.keep.positions(-1))
    last = [int(drafts.places.positions[t, 0]) for t in range(6)]
    lengths = [drafts.readings.readings[int(drafts.places.passes[t, 0])].length for t in range(6)]
    assert drafts.states.iterations == [t for t in range(6) if last[t] == lengths[t] - 1]
