"""Every input of a model's forward that changes its output is followed, or refused by its name."""

from types import SimpleNamespace

import pytest
import torch

import loopscope as ls
from loopscope.adapters import FAMILIES

from ..toys.other_wirings import OuroForCausalLM, RavenForCausalLM
from ..toys.small_models import hrm_text
from .input_cases import MODELS, tokens

SEED = 3
PAIRS = [(family, name) for family, (_, inputs) in MODELS.items() for name in inputs]
FOLLOWED = {
    "HrmTextForCausalLM": "attention_mask position_ids token_type_ids inputs_embeds use_cache logits_to_keep",
    "HrmTextModel": "attention_mask position_ids token_type_ids inputs_embeds use_cache",
    "AlbertModel": "attention_mask position_ids token_type_ids inputs_embeds",
    "AlbertPreTrainedModel": "attention_mask position_ids token_type_ids inputs_embeds",
    "OuroForCausalLM": "attention_mask position_ids cache_position inputs_embeds use_cache logits_to_keep "
    "exit_at_step exit_threshold use_weighted_exit",
    "NanbeigeForCausalLM": "attention_mask position_ids cache_position inputs_embeds use_cache "
    "logits_to_keep",
    "RavenForCausalLM": "attention_mask position_ids cache_position input_embeds use_cache num_steps "
    "input_states init_scale",
    "Parcae": "num_steps_pair attention_mask position_ids return_logits",
    "TransformerWrapper": "mask attn_mask pos sum_embeds prepend_embeds seq_start_pos looped_steps "
    "max_looped_steps",
    "tied TransformerWrapper": "mask pos sum_embeds prepend_embeds",
    "TinyRecursiveModel": "outputs latents",
    "TransformerBridge": "attention_mask position_ids use_cache logits_to_keep",
    "HierarchicalReasoningModel_ACTV1": "batch carry",
    "TinyRecursiveReasoningModel_ACTV1": "batch carry",
    "MoEUTLM": "mask",
    "GPT": "num_recur warm_start_state",
}
"""By family: the inputs that a recording must follow; it refuses every other."""
NO_FORM = ("RavenForCausalLM", "OuroForCausalLM", "NanbeigeForCausalLM")
"""Families whose modules here take no return_dict."""


@pytest.fixture(scope="module")
def models():
    """By family: the model, and the same wrapped."""
    made = {}
    for family, (build, _) in MODELS.items():
        torch.manual_seed(1)
        model = build().eval()
        made[family] = SimpleNamespace(bare=model, wrapped=ls.wrap(model))
    return made


def own_answer(wrapped, given, inputs):
    torch.manual_seed(SEED)
    with torch.no_grad():
        return wrapped.forward_logits(given, **inputs)


@pytest.mark.filterwarnings("error::loopscope.common.errors.LoopscopeWarning")
@pytest.mark.parametrize(("family", "name"), PAIRS, ids=[f"{family} {name}" for family, name in PAIRS])
def test_an_input_is_followed_or_refused_by_its_name(models, family, name):
    inputs = {name: MODELS[family][1][name]}
    given = None if name == "inputs_embeds" else tokens()
    wrapped = models[family].wrapped
    if name not in FOLLOWED[family].split():
        for call in (ls.record, lambda model, x, **more: model.difference(x, **more)):
            with pytest.raises(ls.LoopscopeError, match=rf"\b{name}\b"):
                call(wrapped, given, **inputs)
        return
    run = ls.record(wrapped, given, seed=SEED, **inputs)
    assert torch.equal(run.output, own_answer(wrapped, given, inputs))
    assert torch.equal(ls.resume(wrapped, run, run.iterations, start=1).output, run.output)
    assert wrapped.difference(given, **inputs) == 0


def test_every_family_has_cases():
    reads_stories = {"BabiUTransformer"}  # whose inputs are in test_universal.py
    assert set(FAMILIES) <= set(MODELS) | reads_stories


@pytest.mark.parametrize("family", MODELS)
def test_a_value_without_effect_is_no_reason_to_refuse(models, family):
    neutral = {
        "labels": None,
        "output_hidden_states": False,
        "output_attentions": None,
        "past_key_values": None,
    }
    neutral = {name: value for name, value in neutral.items() if name in MODELS[family][1]}
    if "return_dict" in MODELS[family][1] and family not in NO_FORM:
        neutral["return_dict"] = True
    wrapped = models[family].wrapped
    if family == "TransformerBridge":
        neutral = {}
    run = ls.record(wrapped, tokens(), seed=SEED, **neutral)
    assert torch.equal(run.output, own_answer(wrapped, tokens(), {}))


def test_logits_to_keep_holds_for_every_read_out():
    torch.manual_seed(1)
    wrapped = ls.wrap(hrm_text().eval())
    whole = ls.record(wrapped, tokens())
    for keep, places in ((1, [-1]), (3, [-3, -2, -1]), (torch.tensor([0, 4]), [0, 4])):
        run = ls.record(wrapped, tokens(), logits_to_keep=keep)
        for k in range(run.iterations + 1):
            assert torch.allclose(run.logits[k], whole.logits[k][:, places], atol=1e-6)
    for bad in (-1, 1.5, True, "all"):
        with pytest.raises(ls.LoopscopeError, match="logits_to_keep must be a number of last positions"):
            ls.record(wrapped, tokens(), logits_to_keep=bad)


@pytest.mark.parametrize("threshold", [1.0, 0.5, 0.3, None])
def test_ouros_answer_follows_its_threshold_and_its_read_outs_the_states(threshold):
    torch.manual_seed(1)
    model = OuroForCausalLM(threshold=threshold).eval()
    wrapped, x = ls.wrap(model), tokens()
    run = ls.record(wrapped, x)
    assert torch.equal(run.output, model(x).logits)
    for k in range(1, run.iterations + 1):
        assert torch.equal(run.logits[k], model(x, exit_at_step=k - 1).logits)
    if threshold in (0.5, 0.3):
        assert not torch.equal(run.output, run.logits[-1]), "the test needs positions that exit early"
    if threshold is not None:
        rows = run.halting.iteration[..., None].expand_as(run.output)
        chosen = run.logits[1:].tensor.gather(0, rows[None].long())[0]
        assert torch.allclose(run.output, chosen, atol=1e-6)


def test_a_lens_of_a_model_that_answers_early_is_compared_with_its_last_read_out():
    torch.manual_seed(1)
    run = ls.record(ls.wrap(OuroForCausalLM(threshold=0.3).eval()), tokens())
    assert not torch.equal(run.output, run.logits[-1]), "the test needs positions that exit early"
    assert str(ls.lens(run, "coda"))


def test_ouros_answer_is_of_the_edited_states_and_gates():
    torch.manual_seed(1)
    model = OuroForCausalLM(threshold=0.5).eval()
    wrapped, x = ls.wrap(model), tokens()
    value = torch.randn(2, 8, 16)
    edited = ls.record(wrapped, x, edits=[ls.patch("state", iteration=1, value=value)], exit_at_step=0)
    assert torch.equal(edited.output, model.lm_head(value))
    for t in range(4):
        gates = [
            ls.patch("model.early_exit_gate", iteration=i, value=torch.full((2, 8, 1), 30.0 * (i == t) - 15))
            for i in range(4)
        ]
        run = ls.record(wrapped, x, edits=gates)
        assert torch.equal(run.output, run.logits[t + 1])
    run = ls.record(wrapped, x, keep=ls.keep.last(1))
    assert torch.equal(run.output, model(x).logits)


def test_ouros_early_answer_is_of_its_own_number_of_iterations():
    torch.manual_seed(1)
    wrapped = ls.wrap(OuroForCausalLM(threshold=0.5).eval())
    with pytest.raises(ls.LoopscopeError, match="exit_at_step says which of the model's own 4 iterations"):
        ls.record(wrapped, tokens(), 6, exit_at_step=1)
    run = ls.record(wrapped, tokens(), 6)
    assert torch.equal(run.output, run.logits[6])


def test_num_steps_that_is_no_number_is_refused():
    torch.manual_seed(1)
    wrapped = ls.wrap(RavenForCausalLM().eval())
    for bad in ("four", object(), [1, "two"]):
        with pytest.raises(ls.LoopscopeError, match="num_steps must be a number of iterations"):
            ls.record(wrapped, tokens(), num_steps=bad)


def test_tokens_and_embeddings_are_not_both_given():
    torch.manual_seed(1)
    with pytest.raises(ls.LoopscopeError, match="tokens or inputs_embeds, but got both"):
        ls.record(ls.wrap(hrm_text().eval()), tokens(), inputs_embeds=torch.zeros(2, 8, 16))


def test_a_forward_without_an_input_of_its_family_refuses_it_by_name():
    from ..toys.family_doubles import OuroForCausalLM as Small

    torch.manual_seed(1)
    with pytest.raises(ls.LoopscopeError, match="doesn't take 'exit_at_step'"):
        ls.record(ls.wrap(Small().eval()), tokens(), exit_at_step=1)
