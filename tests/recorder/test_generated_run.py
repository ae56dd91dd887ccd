"""A generation as one run: its new tokens are positions, and analyses of it are those of a plain
pass at these positions."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import loopscope as ls

from ..toys.family_doubles import OuroConfig, OuroForCausalLM
from ..toys.small_models import hrm_text, x_transformer

PROMPT, NEW = torch.tensor([[5, 6, 7, 5], [9, 3, 9, 3]]), 6


@pytest.fixture(scope="module")
def ouro():
    torch.manual_seed(1)
    return ls.wrap(OuroForCausalLM(OuroConfig(total_ut_steps=8, hidden_size=8)).eval())


@pytest.fixture(scope="module")
def hrm():
    torch.manual_seed(1)
    return hrm_text(eos_token_id=None, pad_token_id=0).eval()


@pytest.fixture(scope="module")
def made(ouro):
    out = ls.generate(ouro, PROMPT, max_new_tokens=NEW)
    plain = ls.record(ouro, out.tokens[:, :-1])
    places = slice(PROMPT.shape[1] - 1, None)
    mask = torch.zeros_like(plain.tokens, dtype=torch.bool)
    mask[:, places] = True
    return SimpleNamespace(out=out, plain=plain, places=places, mask=mask)


def test_position_j_is_that_from_which_token_j_was_read(made):
    run = made.out.run
    assert run.states.axes == ("iteration", "batch", "position", "width")
    assert torch.equal(run.states.tensor, made.out.states.tensor.movedim(0, 2))
    assert torch.equal(run.tokens, made.out.tokens[:, made.places][:, :-1])
    assert torch.equal(run.output.argmax(-1), made.out.tokens[:, PROMPT.shape[1] :])


def test_it_is_a_plain_pass_at_these_positions(made):
    run = made.out.run
    assert torch.allclose(run.states.tensor, made.plain.states.tensor[:, :, made.places], atol=1e-5)
    for k in (0, 3, 8):
        assert torch.allclose(run.logits[k], made.plain.logits[k][:, made.places], atol=1e-5)
    assert torch.allclose(run.halting.weights, made.plain.halting.weights[..., made.places], atol=1e-5)


def numbers_in(value: Any, name: str = "") -> dict[str, float]:
    """All numbers of a result, by their place in it."""
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, part in parts for k, v in numbers_in(part, f"{name}.{key}").items()}
    return {name: value} if isinstance(value, int | float) else {}


@pytest.mark.parametrize("name", ["geometry", "lens"])
def test_an_analysis_is_that_of_a_plain_pass_at_these_positions(made, name):
    one = ls.analyses.measure(name, made.out)
    other = ls.analyses.measure(name, made.plain, mask=made.mask)
    assert one.verdict == other.verdict
    assert numbers_in(one.to_json()) == pytest.approx(numbers_in(other.to_json()), rel=1e-3, abs=1e-4)


def test_convergence_is_told_by_what_was_recorded(made):
    result = ls.analyses.measure("convergence", made.out)
    assert "The tokens of a generation can't be iterated on, so distances are to state 7" in result.summary()


@pytest.mark.slow
def test_a_report_is_made_of_it(made, tmp_path):
    path = ls.report(made.out, analyses=["geometry"]).save(tmp_path / "report.html")
    assert "Measured on 12 vectors per state" in path.read_text()


def test_a_row_that_has_met_its_end_is_absent_and_does_not_count(hrm):
    ends = {"eos_token_id": [3, 4, 6, 8, 14, 21, 30], "do_sample": True, "num_return_sequences": 4}
    out = ls.generate(ls.wrap(hrm), PROMPT, max_new_tokens=NEW, seed=4, pad_token_id=0, **ends)
    run, places = out.run, out.places
    assert bool((places.passes < 0).any())
    assert torch.equal(run.mask, (places.passes >= 0).T)
    assert run.states[1][~run.mask].isnan().all()
    assert run.output[~run.mask].isnan().all()
    run.require_finite()
    assert ls.analyses.measure("geometry", out).verdict is not None


@pytest.mark.parametrize(
    "options",
    [
        {"prompt_lookup_num_tokens": 3},
        {"use_cache": False},
        {"num_beams": 3},
        {"prefill_chunk_size": 3},
    ],
)
def test_whichever_passes_computed_the_tokens(hrm, options):
    prompt = PROMPT[:1] if "prompt_lookup_num_tokens" in options else PROMPT
    site = "model.L_module.layers.1.mlp"
    out = ls.generate(ls.wrap(hrm), prompt, max_new_tokens=NEW, do_sample=False, sites=[site], **options)
    plain = ls.record(ls.wrap(hrm), out.tokens[:, :-1], sites=[site])
    run, places = out.run, slice(PROMPT.shape[1] - 1, None)
    assert run[site].axes == ("iteration", "low", "batch", "position", "width")
    assert torch.allclose(run[site].tensor, plain[site].tensor[..., places, :], atol=1e-5)
    assert torch.allclose(run.output, plain.output[:, places], atol=1e-5)


def test_a_pattern_whose_size_differs_from_token_to_token_is_left_out():
    torch.manual_seed(1)
    model = hrm_text(eos_token_id=None, attn_implementation="eager").eval()
    site = "model.H_module.layers.0.self_attn.hook_pattern"
    out = ls.generate(ls.wrap(model), PROMPT, max_new_tokens=2, do_sample=False, sites=[site])
    assert site in out.names
    assert site not in out.run.names


def loops_of_different_length() -> Any:
    from x_transformers import AutoregressiveWrapper

    torch.manual_seed(1)
    model = x_transformer(looped=True).eval()
    with ls.recording(ls.wrap(model)) as out:
        AutoregressiveWrapper(model).generate(torch.tensor([[1, 2, 3]]), seq_len=3, temperature=0.0)
    return out


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda made: ls.resume(made.out.run.model, made.out.run, 9), r"Record them in one pass: ls.record"),
        (lambda made: ls.analyses.measure("stability", made.out), "can't be iterated on as one run"),
        (lambda made: ls.analyses.measure("locality", made.out), "can't be iterated on as one run"),
        (lambda made: ls.effects(made.out.run, "zero"), "can't be iterated on as one run"),
        (
            lambda made: loops_of_different_length().run,
            "same number of iterations to be one run, but ran 3 to 4",
        ),
        (lambda made: ls.lens(made.out), "Pass its tokens as one run, out.run"),
    ],
)
def test_what_needs_more_than_its_states_is_refused_in_a_sentence(made, call, text):
    with pytest.raises(ls.LoopscopeError, match=text):
        call(made)
