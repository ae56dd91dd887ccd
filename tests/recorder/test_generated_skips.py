"""Iterations skipped and repeated while a model generates: as computed token by token without a
cache by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

import loopscope as ls
from loopscope.core.looped_model import step_at

from ..toys.family_doubles import OuroConfig, OuroForCausalLM
from ..toys.looped_text_model import RandomStart
from ..toys.small_models import hrm_text

PROMPT, NEW = torch.tensor([[5, 6, 7, 5], [9, 3, 9, 3]]), 5
BODY = ["model.layers.0", "model.layers.1", "model.norm"]


@pytest.fixture(scope="module")
def ouro():
    torch.manual_seed(1)
    return OuroForCausalLM(OuroConfig(hidden_size=8)).eval()


def wrapped_as(kind: str, model: Any) -> Any:
    return ls.wrap(model) if kind == "adapter" else ls.wrap(model, body=BODY)


def by_hand(wrapped: Any, skipped: dict[int, list[int]]) -> tuple[Tensor, list[Tensor]]:
    """Greedy, a whole pass for each token, by the four functions alone.

    Arguments:
        skipped: by iteration, the tokens that leave it out.

    Returns:
        all tokens, and for each new token the states (state, row, width) it was read from.
    """
    tokens, states = PROMPT, []
    with torch.no_grad():
        for _ in range(NEW):
            context = wrapped.encode(tokens)
            x = wrapped.initial(context)
            passed = [x[:, -1]]
            for t in range(wrapped.iterations):
                new = step_at(wrapped, x, context, t)
                places = [PROMPT.shape[1] - 1 + token for token in skipped.get(t, [])]
                held = torch.isin(torch.arange(tokens.shape[1]), torch.tensor(places))
                x = torch.where(held[:, None], x, new)
                passed.append(x[:, -1])
            states.append(torch.stack(passed))
            tokens = torch.cat([tokens, wrapped.decode(x, context)[:, -1:].argmax(-1)], 1)
    return tokens, states


@pytest.mark.parametrize("kind", ["adapter", "body"])
@pytest.mark.parametrize(
    ("edits", "skipped"),
    [
        ([ls.skip(2, token=2)], {2: [2]}),
        ([ls.skip(1, token=slice(1, 4)), ls.skip(3, token=3)], {1: [1, 2, 3], 3: [3]}),
        ([ls.skip(0, token=0)], {0: [0]}),
        ([ls.freeze(iteration=slice(1, 3), token=2)], {1: [2], 2: [2]}),
    ],
)
def test_a_skip_at_a_token_is_what_is_computed_by_hand_without_a_cache(ouro, kind, edits, skipped):
    out = ls.generate(wrapped_as(kind, ouro), PROMPT, edits=edits, max_new_tokens=NEW)
    tokens, states = by_hand(ls.wrap(ouro), skipped)
    assert torch.equal(out.tokens, tokens)
    for token in range(NEW):
        assert torch.allclose(out.states[token], states[token], atol=1e-5)
        for t, chosen in skipped.items():
            stayed = torch.equal(out.states[token, t + 1], out.states[token, t])
            assert stayed == (token in chosen)


@pytest.mark.parametrize("kind", ["adapter", "body"])
@pytest.mark.parametrize("cached", [True, False])
def test_an_iteration_skipped_at_every_token_is_a_plain_pass_without_it(ouro, kind, cached):
    wrapped = wrapped_as(kind, ouro)
    out = ls.generate(wrapped, PROMPT, edits=[ls.skip(1)], max_new_tokens=NEW, use_cache=cached)
    for token in range(NEW):
        plain = ls.record(ls.wrap(ouro), out.tokens[:, : 4 + token], edits=[ls.skip(1)])
        assert torch.allclose(out.states[token], plain.states.tensor[:, :, -1], atol=1e-5)
    assert not torch.allclose(
        out.states.tensor, ls.generate(wrapped, PROMPT, max_new_tokens=NEW).states.tensor
    )


def test_a_repeat_at_every_token_is_a_plain_pass_with_it():
    torch.manual_seed(1)
    model = RandomStart.small().eval()
    wrapped, edit = ls.wrap(model, body="core"), ls.repeat(1, times=3)
    out = ls.generate(wrapped, PROMPT, edits=[edit], max_new_tokens=3, do_sample=False, seed=1)
    for run in out:
        x = run["core_in"][1]
        for _ in range(3):
            x = model.core(x)
        assert torch.allclose(run.states[2], x, atol=1e-6)


@pytest.mark.parametrize("positions", [-1, [0, 2], slice(1, None)])
def test_a_plain_pass_skips_at_positions_too(ouro, positions):
    wrapped = ls.wrap(ouro)
    run = ls.record(wrapped, PROMPT, edits=[ls.skip(2, position=positions, batch=0)])
    by_body = ls.record(wrapped_as("body", ouro), PROMPT, edits=[ls.skip(2, position=positions, batch=0)])
    plain = ls.record(wrapped, PROMPT)
    held = torch.zeros(2, 4, dtype=torch.bool)
    held[0, positions] = True
    assert torch.equal(run.states[3], torch.where(held[..., None], plain.states[2], plain.states[3]))
    assert torch.equal(by_body.states[1:].tensor, run.states[1:].tensor)


def test_all_fields_of_a_state_are_skipped_together():
    model = ls.models.build("hrm", width=8, heads=2, layers=1, segments=2, length=6)
    tokens = torch.zeros(2, 6, dtype=torch.long)
    run = ls.record(model, tokens, edits=[ls.skip(1, batch=0)])
    plain = ls.record(model, tokens)
    for name in ("state", "state.low"):
        assert torch.equal(run[name][2][0], plain[name][1][0])
        assert torch.equal(run[name][2][1], plain[name][2][1])
    whole = ls.record(model, tokens, edits=[ls.skip(1)])
    assert torch.allclose(run.states[3][0], whole.states[3][0], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "edit", "text"),
    [
        ("ouro", ls.repeat(1), "only a body that is one module can be repeated"),
        ("ouro", ls.swap(0, 1), "Use ls.record"),
        ("ouro", ls.skip(1, token=9), "never applied: 5 tokens came"),
        ("ouro", ls.skip(9, token=1), "never applied"),
        ("hrm", ls.skip(1), "follows skip and repeat, for a state of one tensor"),
        ("hrm", ls.skip(1, token=1), "Use ls.record for further fields of the state"),
        ("hrm by its body", ls.repeat(1), "must have no cache, into which each call would write"),
    ],
)
def test_what_no_pass_follows_is_refused(ouro, make, edit, text):
    hrm = {} if make == "ouro" else {"do_sample": False}
    wrapped = ls.wrap(ouro) if make == "ouro" else ls.wrap(hrm_text(eos_token_id=None).eval())
    if make == "hrm by its body":
        wrapped = ls.wrap(wrapped.module, body="model.H_module")
    with pytest.raises(ls.LoopscopeError, match=text):
        ls.generate(wrapped, PROMPT, edits=[edit], max_new_tokens=NEW, **hrm)
