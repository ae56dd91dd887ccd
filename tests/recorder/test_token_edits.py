"""Edits at a token of a generation: they act in the pass that computes it, and nowhere before."""

from typing import Any

import pytest
import torch

import loopscope as ls

from ..toys.small_models import hrm_text, wrapped_as, x_transformer

PROMPT = torch.tensor([[5, 6, 7, 5], [9, 3, 9, 3]])
NEW, WIDTH = 5, 16
KINDS = ["adapter", "body"]
DIRECTION = torch.arange(float(WIDTH)) - 5
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "no cache": {"use_cache": False},
    "sampling": {"do_sample": True, "num_return_sequences": 2},
    "beams": {"num_beams": 3},
    "beams without a cache": {"num_beams": 3, "use_cache": False},
    "prompt in chunks": {"prefill_chunk_size": 3},
    "cache of fixed length": {"cache_implementation": "static"},
    "guidance": {"guidance_scale": 1.5},
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return hrm_text(eos_token_id=None, pad_token_id=0).eval()


def generated(wrapped: Any, *edits: Any, **options: Any) -> Any:
    options = {"do_sample": False, "max_new_tokens": NEW} | options
    return ls.generate(wrapped, PROMPT, edits=list(edits), seed=3, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cached", [True, False])
def test_it_acts_at_its_token_and_iteration_and_leaves_all_before(model, kind, cached):
    wrapped = wrapped_as(kind, model)
    plain = generated(wrapped, use_cache=cached)
    push = ls.steer(DIRECTION, norm=50, token=3, iteration=1)
    edited = generated(wrapped, push, use_cache=cached)
    for token in range(3):
        assert torch.equal(edited.at(token=token).states[1:].tensor, plain.at(token=token).states[1:].tensor)
    one, other = edited.at(token=3).states, plain.at(token=3).states
    if kind == "adapter":  # by its body, states[0] isn't known
        assert torch.equal(one[0], other[0])
    assert torch.equal(one[1][:, :-1], other[1][:, :-1])
    assert torch.equal(one[1][:, -1], other[1][:, -1] + push.value.float())
    assert not torch.equal(one[2][:, -1], other[2][:, -1])
    assert torch.equal(edited.tokens[:, : 4 + 3], plain.tokens[:, : 4 + 3])


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_edit_of_a_plain_recording_of_the_tokens_before(model, kind):
    wrapped = wrapped_as(kind, model)
    edits = [ls.steer(DIRECTION, norm=50, token=t, iteration=1) for t in (2, 3)]
    out = generated(wrapped, *edits, use_cache=False)
    for token in (2, 3):
        last = ls.steer(DIRECTION, norm=50, position=-1, iteration=1)
        alone = ls.record(wrapped, out.tokens[:, : 4 + token], edits=[last], use_cache=False)
        assert torch.equal(out.at(token=token).states[1:].tensor, alone.states[1:].tensor)
    plain = ls.record(wrapped, out.tokens[:, : 4 + 4], use_cache=False)
    assert torch.equal(out.at(token=4).states[1:].tensor, plain.states[1:].tensor)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_states_of_its_token_have_what_it_put_there(model, setting):
    """Whichever pass computed the token, and in whichever row."""
    put = ls.patch("state", value=DIRECTION, token=slice(1, 3), iteration=1)
    states = generated(ls.wrap(model), put, **SETTINGS[setting]).states
    for token in range(NEW):
        there = (states[token, 1] == DIRECTION).all(-1)
        assert there.tolist() == [token in (1, 2)] * len(there)
        assert not (states[token, 2] == DIRECTION).all(-1).any()


def test_what_a_token_had_can_be_put_back(model):
    """`out.states[token, k]` is the value of a patch at (token, k)."""
    wrapped = ls.wrap(model)
    donor = generated(wrapped, ls.steer(DIRECTION, norm=50, token=2, site="core_in", iteration=0))
    put = ls.patch("state", value=donor.states[2, 1], token=2, iteration=1)
    assert torch.equal(generated(wrapped, put).states[2, 1], donor.states[2, 1])
    assert not torch.equal(generated(wrapped).states[2, 1], donor.states[2, 1])


@pytest.mark.parametrize("form", [slice(1, None, 2), [1, 3], [False, True, False, True, False]])
def test_a_window_of_tokens_is_an_edit_at_each(model, form):
    wrapped = ls.wrap(model)
    one = [ls.steer(DIRECTION, norm=9, token=t, iteration=slice(0, 2)) for t in (1, 3)]
    window = ls.steer(DIRECTION, norm=9, token=form, iteration=slice(0, 2))
    assert torch.equal(generated(wrapped, *one).states.tensor, generated(wrapped, window).states.tensor)


def test_a_position_is_one_of_the_pass_of_the_token(model):
    wrapped = ls.wrap(model)
    first = generated(wrapped, ls.patch(value=DIRECTION, token=0, iteration=1, position=1, batch=0))
    everywhere = generated(wrapped, ls.patch(value=DIRECTION, token=0, iteration=1, position=slice(None)))
    hit = (first.at(token=0)[1] == DIRECTION).all(-1)
    assert hit.nonzero().tolist() == [[0, 1]]
    assert (everywhere.at(token=0)[1] == DIRECTION).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_coefficient_of_zero_is_no_edit(model, kind):
    wrapped = wrapped_as(kind, model)
    nothing = ls.steer(DIRECTION, coefficient=0, token=slice(0, None), iteration=slice(1, None))
    assert torch.equal(generated(wrapped, nothing).states[:, 1:], generated(wrapped).states[:, 1:])


@pytest.mark.parametrize("cached", [True, False])
def test_a_generate_of_another_package_is_edited_too(cached):
    from x_transformers import AutoregressiveWrapper

    torch.manual_seed(1)
    looped = x_transformer(looped=True).eval()
    wrapped, prompt = ls.wrap(looped), torch.tensor([[1, 2, 3]])
    put = ls.patch("state", value=1.5, token=2, iteration=1)
    with ls.recording(wrapped, edits=[put]) as out:
        AutoregressiveWrapper(looped).generate(prompt, seq_len=4, temperature=0.0, cache_kv=cached)
    assert [bool((out.states[token, 1] == 1.5).all()) for token in range(4)] == [False, False, True, False]


def test_embeddings_in_place_of_a_prompt_count_as_one(model):
    embeddings = model.get_input_embeddings()(PROMPT).detach()
    put = ls.patch("state", value=DIRECTION, token=2, iteration=1)
    out = ls.generate(
        ls.wrap(model), None, inputs_embeds=embeddings, edits=[put], max_new_tokens=4, do_sample=False
    )
    assert [bool((out.states[token, 1] == DIRECTION).all()) for token in range(4)] == [
        False,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("where", "options", "text"),
    [
        ({"token": -1}, {}, "so that tokens must be counted from the start"),
        ({"token": slice(-2, None)}, {}, "counted from the start"),
        ({"token": 7}, {}, r"never applied: 5 tokens came \(0..4\). Choose one of them, or generate more"),
        ({"token": [2, 7]}, {}, r"did not apply at token 7: 5 tokens came"),
        ({"token": slice(6, 9)}, {}, r"token=6:9 never applied: 5 tokens came"),
        ({"token": 1, "position": 0}, {"prompt_lookup_num_tokens": 3}, "must compute one new token alone"),
        ({"token": 1, "position": 0}, {"assistant_model": "own"}, "must compute one new token alone"),
        (
            {"position": -1},
            {"prompt_lookup_num_tokens": 3},
            r"Name the tokens, such as token=slice\(0, None\)",
        ),
        ({"position": -1}, {"assistant_model": "own"}, "is a draft or checks one"),
        ({"token": 1, "batch": 0}, {"num_beams": 2}, "batch= can't name them"),
    ],
)
def test_what_no_pass_of_its_own_has_is_refused(model, where, options, text):
    if options.get("assistant_model"):
        options = {"assistant_model": model}
    put = ls.patch("state", value=DIRECTION, iteration=1, **where)
    repeated = torch.tensor([[5, 6, 7, 5, 6, 7, 5]])
    with pytest.raises(ls.LoopscopeError, match=text):
        ls.generate(ls.wrap(model), repeated, edits=[put], max_new_tokens=5, do_sample=False, **options)


def test_a_second_generate_in_one_recording_is_refused(model):
    put = ls.patch("state", value=DIRECTION, iteration=1, token=1)

    def twice() -> None:
        with ls.recording(ls.wrap(model), edits=[put]):
            model.generate(PROMPT, do_sample=False, max_new_tokens=2)
            model.generate(PROMPT, do_sample=False, max_new_tokens=2)

    with pytest.raises(ls.LoopscopeError, match=r"Generate once"):
        twice()
