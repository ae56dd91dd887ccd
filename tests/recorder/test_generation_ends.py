"""Rows that met their end, padded prompts, edits of passes, and a generation where a run is
needed."""

from typing import Any

import pytest
import torch
from transformers import StoppingCriteria

import loopscope as ls

from ..toys.family_doubles import OuroForCausalLM
from ..toys.small_models import hrm_text, x_transformer

TOKENS = torch.tensor([[5, 6, 7, 5, 9], [9, 3, 9, 3, 2], [1, 2, 3, 4, 5]])
GREEDY = {"do_sample": False, "max_new_tokens": 6}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return hrm_text(eos_token_id=None, pad_token_id=0).eval()


@pytest.fixture(scope="module")
def free(model):
    """What the model generates if nothing ends a row."""
    return model.generate(TOKENS, **GREEDY)[:, 5:]


class StopAt(StoppingCriteria):
    """Ends a row at a number of tokens of its own."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = torch.tensor(lengths)

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        return input_ids.shape[1] >= 5 + self.lengths


def ends(free: Any, row: int, token: int) -> int:
    """The token at which a row first has what it has there."""
    return free[row].tolist().index(int(free[row, token]))


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(
    "by", ["a token", "tokens", "a criterion", "a criterion beside a token", "the config"]
)
def test_a_row_is_absent_after_its_end(model, free, by, cached):
    options: dict[str, Any] = {"use_cache": cached, "pad_token_id": 0}
    first, second = int(free[0, 1]), int(free[1, 3])
    if by == "a criterion":
        options["stopping_criteria"] = [StopAt([2, 4, 9])]
        lengths = [2, 4, 6]
    else:
        tokens = [first, second] if by == "tokens" else [first]
        if by == "the config":
            options["generation_config"] = type(model.generation_config)(eos_token_id=tokens, pad_token_id=0)
        else:
            options["eos_token_id"] = tokens[0] if len(tokens) == 1 else tokens
        if by == "a criterion beside a token":
            options["stopping_criteria"] = [StopAt([9, 3, 9])]
        lengths = [next((j + 1 for j, t in enumerate(row) if t in tokens), 6) for row in free.tolist()]
        lengths[1] = min(lengths[1], 3) if "criterion" in by else lengths[1]
    out = ls.generate(ls.wrap(model), TOKENS, **GREEDY, **options)
    present = torch.arange(max(lengths))[:, None] < torch.tensor(lengths)
    assert torch.equal(out.states.present[:, 1], present)
    assert torch.equal(
        out.states.tensor[:, :, ~present.all(0)].isnan().any(-1).any(1), ~present[:, ~present.all(0)]
    )
    assert torch.equal(out.places.passes >= 0, present)
    for token in range(max(lengths)):
        run = out.at(token=token)
        assert torch.equal(run.states.present[0], present[token])
        assert torch.equal(run.states.tensor.isnan().all(-1).all(-1).all(0), ~present[token])
        counted = run.inputs.get("attention_mask", torch.ones(3, 1))
        assert torch.equal(counted.bool().any(1), present[token])  # so that it counts in nothing pooled
        run.require_finite()
    with pytest.raises(ls.LoopscopeIndexError, match="token must be one of"):
        out.at(token=max(lengths))


@pytest.mark.parametrize(
    "setting", [{}, {"use_cache": False}, {"num_beams": 3}, {"cache_implementation": "static"}]
)
def test_padding_before_a_prompt_changes_no_state(model, setting):
    mask = torch.tensor([[0, 0, 0, 1, 1], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    out = ls.generate(ls.wrap(model), TOKENS * mask, attention_mask=mask, **GREEDY, **setting)
    for row, pads in enumerate([3, 1, 0]):
        alone = ls.record(ls.wrap(model), out.tokens[row : row + 1, pads:-1])
        for token in range(6):
            for k in range(3):
                right = alone.states[k][0, 5 - pads + token - 1]
                assert torch.allclose(out.states[token, k][row], right, atol=1e-5)
    first = out.at(token=0)
    assert torch.equal(first.inputs["attention_mask"], mask)
    again = ls.record(ls.wrap(model), first.tokens, **first.inputs)
    assert torch.equal(again.states.tensor, first.states.tensor)


def test_the_first_pass_is_measured_as_a_plain_recording_is(model):
    run = ls.generate(ls.wrap(model), TOKENS, **GREEDY).at(token=0)
    plain = ls.record(ls.wrap(model), TOKENS)
    one, other = (ls.analyses.measure("convergence", r) for r in (run, plain))
    assert str(one) == str(other)
    assert torch.equal(
        ls.resume(run.model, run, 5).states.tensor, ls.record(run.model, TOKENS, 5).states.tensor
    )


@pytest.mark.parametrize("call", [
    lambda run: ls.resume(run.model, run, 5),
    lambda run: ls.analyses.measure("fixed_points", run),
    lambda run: ls.analyses.measure("convergence", run),
    lambda run: ls.effects(run, run),
])  # fmt: skip
def test_a_pass_that_read_a_cache_is_not_iterated_on_without_it(model, call):
    run = ls.generate(ls.wrap(model), TOKENS, **GREEDY).at(token=2)
    with pytest.raises(ls.LoopscopeError, match="cache can't be iterated on"):
        call(run)


def test_nothing_is_computed_from_a_saved_pass_whose_cache_is_lost(model, tmp_path):
    out = ls.generate(ls.wrap(model), TOKENS, **GREEDY)
    late = ls.load_run(out.at(token=2).save(tmp_path / "late.safetensors"), model=ls.wrap(model))
    assert torch.equal(late.states.tensor, out.at(token=2).states.tensor)
    with pytest.raises(ls.LoopscopeError, match="read a cache, which is not in its file"):
        _ = late.logits[1]


def test_a_generation_is_no_run(model):
    out = ls.generate(ls.wrap(model), TOKENS, **GREEDY)
    calls = [lambda: ls.lens(out), lambda: ls.effects(out, out), lambda: ls.resume(ls.wrap(model), out, 5)]
    calls += [lambda: out.logits, lambda: out.iterations]
    for call in calls:
        with pytest.raises(ls.LoopscopeError, match=r"ass .*out\.run, .*: out\.at\(token=0\)\."):
            call()
    assert not hasattr(out, "nothing")


@pytest.mark.parametrize("edit", [
    ls.patch("state", iteration=1, value=torch.zeros(16), position=3),
    ls.patch("state", iteration=1, value=torch.zeros(3, 5, 16)),
])  # fmt: skip
def test_an_edit_that_does_not_fit_a_later_pass_says_which(model, edit):
    with pytest.raises(ls.LoopscopeError, match=r"That was in pass 1: an edit applies in every pass"):
        ls.generate(ls.wrap(model), TOKENS, edits=[edit], **GREEDY)


@pytest.mark.parametrize("edit", [
    ls.skip(9), ls.repeat(1, 2), ls.swap(0, 1), ls.halt_at(1), ls.bias_halting(1.0),
    ls.patch("state", iteration=9, value=torch.zeros(16)),
    ls.patch("state", iteration=1, value=torch.zeros(16), batch=7),
    ls.ablate("nothing"),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["adapter", "body"])
def test_an_edit_that_cannot_apply_is_refused(model, edit, kind):
    wrapped = ls.wrap(model) if kind == "adapter" else ls.wrap(model, body="model.H_module")
    with pytest.raises(ls.LoopscopeError):
        ls.generate(wrapped, TOKENS, edits=[edit], **GREEDY)


def test_iterations_from_the_end_need_their_number(model):
    late = ls.patch("state", iteration=-1, value=torch.zeros(16))
    out = ls.generate(ls.wrap(model), TOKENS, edits=[late], **GREEDY)
    assert not out.states[3, 2].any()
    with pytest.raises(ls.LoopscopeError, match="counted from the start while it generates"):
        ls.generate(ls.wrap(model, body="model.H_module"), TOKENS, edits=[late], **GREEDY)


def test_passes_of_your_own_code_are_followed_token_by_token(model):
    wrapped = ls.wrap(model)
    rows = [TOKENS]
    with ls.recording(wrapped) as out:
        for _ in range(3):
            rows.append(torch.cat([rows[-1], model(rows[-1]).logits[:, -1:].argmax(-1)], 1))
    told, whole = out.states, ls.record(wrapped, rows[-2])
    for token in range(3):
        assert torch.allclose(told[token, 2], whole.states[2][:, 4 + token], atol=1e-5)
    out.tokens = rows[-1]
    assert torch.equal(out.states.tensor, told.tensor)


def test_drafts_of_your_own_code_need_the_tokens_that_were_returned(model):
    draft = torch.cat([TOKENS, torch.tensor([[7, 8], [7, 8], [7, 8]])], 1)
    with ls.recording(ls.wrap(model)) as out:
        model(TOKENS)
        model(draft)
    assert torch.equal(out.at(token=0)[2], out.runs[0][2])
    for call in (lambda: out.at(token=1), lambda: out.states):
        with pytest.raises(
            ls.LoopscopeError, match=r"doesn't go on with pass 0 by one token. Set out\.tokens"
        ):
            call()
    out.tokens = torch.cat([draft, torch.full((3, 1), 9)], 1)
    for token, pass_ in enumerate([0, 1, 1]):
        assert torch.equal(out.states[token, 2], out.runs[pass_][2][:, 4 + token])


def test_the_models_own_generate_tells_its_tokens_in_a_recording(model):
    with ls.recording(ls.wrap(model)) as out:
        tokens = model.generate(TOKENS, num_beams=3, **GREEDY)
    assert torch.equal(out.tokens, tokens)
    whole = ls.record(ls.wrap(model), tokens[:, :-1])
    assert torch.allclose(out.states[4, 2], whole.states[2][:, 8], atol=1e-5)


@pytest.mark.parametrize("cached", [True, False])
def test_tokens_of_a_generate_of_another_package(cached):
    from x_transformers import AutoregressiveWrapper

    torch.manual_seed(1)
    looped = x_transformer(looped=True).eval()
    wrapped, prompt = ls.wrap(looped), torch.tensor([[1, 2, 3]])
    with ls.recording(wrapped) as out:
        new = AutoregressiveWrapper(looped).generate(prompt, seq_len=4, temperature=0.0, cache_kv=cached)
    told = out.states
    out.tokens = new  # the new ones alone
    assert torch.equal(out.states.tensor.nan_to_num(), told.tensor.nan_to_num())
    assert out.places.passes.tolist() == [[0], [1], [2], [3]]


def test_rows_that_differ_though_they_read_the_same_are_not_guessed():
    """A first state that is drawn for each row: which beam gave the first token can't be told."""
    from ..toys.looped_text_model import RandomStart

    torch.manual_seed(0)
    model = RandomStart.small().eval()
    wrapped = ls.wrap(model, body="core")
    beams = ls.generate(wrapped, TOKENS, num_beams=3, seed=0, **GREEDY)
    with pytest.raises(ls.LoopscopeError, match="hold different states, so which of them gave token 0"):
        beams.at(token=0)
    assert len(beams.runs) == 6
    samples = ls.generate(
        wrapped, TOKENS[:1], num_return_sequences=3, do_sample=True, max_new_tokens=4, use_cache=False, seed=0
    )
    for token in range(4):
        assert torch.equal(samples.states[token, 2], samples.runs[token].states[2][:, -1])


def test_no_token_no_pass():
    out = ls.generate(ls.wrap(OuroForCausalLM().eval()), TOKENS, max_new_tokens=0)
    assert torch.equal(out.tokens, TOKENS)
    assert repr(out) == "Generation · 0 tokens by 0 passes · no iterations each"
    with pytest.raises(ls.LoopscopeIndexError, match="one of the 0 that were generated"):
        out.at(token=0)
    with pytest.raises(ls.LoopscopeError, match="must have a pass to have 'state'"):
        _ = out.states
