"""Edits under drafts: greedy generation with them is that without a draft, token by token, and what
is computed token by token without a cache by hand."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import loopscope as ls

from ..toys.small_models import hrm_text

PROMPT, NEW, WIDTH = torch.tensor([[5, 6, 7, 5, 6, 7, 5]]), 7, 16
DIRECTION = torch.arange(float(WIDTH)) - 5
SITE = "model.L_module.layers.1.mlp"
EDITS: dict[str, list[Any]] = {
    "one token": [ls.steer(DIRECTION, norm=50, token=3, iteration=1)],
    "a window": [ls.steer(-DIRECTION, norm=9, token=slice(2, 6), iteration=slice(1, 3))],
    "an input": [ls.steer(-DIRECTION, norm=9, token=slice(2, 6), iteration=slice(0, 2), site="core_in")],
    "the first": [ls.patch("state", value=DIRECTION, token=0, iteration=1)],
    "every token": [ls.steer(DIRECTION, norm=5, token=slice(0, None), iteration=2)],
    "a site inside": [ls.ablate(SITE, token=[1, 4], iteration=0, low=1)],
    "two at one token": [ls.steer(DIRECTION, norm=9, token=t, iteration=i) for t, i in ((2, 1), (2, 2))],
    "all positions": [ls.steer(DIRECTION, norm=3, iteration=1)],
}
DRAFTS: dict[str, dict[str, Any]] = {
    "from the prompt": {"prompt_lookup_num_tokens": 3},
    "an assistant": {"assistant": "other"},
    "an assistant that is right": {"assistant": "same"},
    "the model itself": {"assistant": "own"},
}


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(1)
    own = hrm_text(eos_token_id=None, pad_token_id=0).eval()
    other = copy.deepcopy(own)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return SimpleNamespace(own=own, same=copy.deepcopy(own), other=other)


def generated(models: Any, edits: Any, kind: str = "adapter", **options: Any) -> Any:
    if "assistant" in options:
        options["assistant_model"] = getattr(models, options.pop("assistant"))
    wrapped = ls.wrap(models.own) if kind == "adapter" else ls.wrap(models.own, body="model.H_module")
    return ls.generate(wrapped, PROMPT, edits=edits, do_sample=False, max_new_tokens=NEW, **options)


QUICK = [("a window", "from the prompt"), ("a window", "the model itself"), ("a site inside", "an assistant")]
QUICK += [("the first", "an assistant that is right")]


def slow(pair: tuple[Any, ...], quick: list[Any]) -> Any:
    return pytest.param(*pair, marks=() if pair in quick else (pytest.mark.slow,))


@pytest.mark.parametrize(
    ("name", "draft"), [slow((name, draft), QUICK) for name in EDITS for draft in DRAFTS]
)
def test_with_a_draft_it_is_the_generation_without(models, name, draft):
    plain = generated(models, EDITS[name])
    drafted = generated(models, EDITS[name], **DRAFTS[draft])
    assert torch.equal(drafted.tokens, plain.tokens)
    assert torch.allclose(drafted.states.tensor, plain.states.tensor, atol=1e-4)
    if draft == "an assistant that is right":
        assert len(drafted) < len(plain)  # passes with several tokens each


@pytest.mark.slow
def test_the_edits_change_what_is_generated(models):
    """Else the law above would hold of edits that were left out."""
    unedited = generated(models, [])
    for name, edits in EDITS.items():
        assert not torch.allclose(generated(models, edits).states.tensor, unedited.states.tensor), name


@pytest.mark.parametrize(
    ("name", "kind", "draft"),
    [
        slow((name, kind, draft), [("a window", "adapter", None), ("one token", "body", "an assistant")])
        for name in ("one token", "a window", "every token")
        for kind in ("adapter", "body")
        for draft in (None, "from the prompt", "an assistant")
    ],
)
def test_it_is_what_is_computed_token_by_token_without_a_cache(models, name, kind, draft):
    """By hand: one pass over the tokens so far for each token, with the edit at the positions from
    which its tokens were and are read, and the likeliest token."""
    out = generated(models, EDITS[name], kind, **DRAFTS.get(draft, {}))
    wrapped, tokens = ls.wrap(models.own), PROMPT
    for token in range(NEW):
        by_hand = []
        for edit in EDITS[name]:
            at = edit.where["token"]
            past = list(range(token + 1))
            past = past[at] if isinstance(at, slice) else [number for number in past if number == at]
            where = [PROMPT.shape[1] - 1 + number for number in past]
            by_hand += (
                [ls.add(edit.site, value=edit.value, iteration=edit.iteration, position=where)]
                if past
                else []
            )
        run = ls.record(wrapped, tokens, edits=by_hand, use_cache=False)
        assert torch.allclose(out.states[token, 1:], run.states[1:].tensor[:, :, -1], atol=1e-4)
        tokens = torch.cat([tokens, run.output[:, -1:].argmax(-1)], 1)
    assert torch.equal(out.tokens, tokens)
