"""Recording while a model generates: what ran is what is there, token by token."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.recorder import Generation

from ..toys.family_doubles import OuroForCausalLM, RavenForCausalLM
from ..toys.small_models import hrm_text, x_transformer

NEW, PROMPT = 5, 4


def model_of(name: str) -> Any:
    torch.manual_seed(1)
    makers = {"HRM-Text": lambda: hrm_text(eos_token_id=None), "Ouro": OuroForCausalLM}
    return makers[name]().eval()


@pytest.fixture(params=["HRM-Text", "Ouro"], scope="module")
def made(request):
    model = model_of(request.param)
    prompt = torch.randint(0, 30, (2, PROMPT), generator=torch.Generator().manual_seed(2))
    options = {"max_new_tokens": NEW} | ({"do_sample": False} if request.param == "HRM-Text" else {})
    return SimpleNamespace(model=model, wrapped=ls.wrap(model), prompt=prompt, options=options)


def generated(made, cached: bool, **options: Any) -> Generation:
    return ls.generate(made.wrapped, made.prompt, use_cache=cached, **made.options, **options)


@pytest.mark.parametrize("cached", [True, False])
def test_recording_changes_no_token(made, cached):
    run = generated(made, cached)
    assert torch.equal(run.tokens, made.model.generate(made.prompt, use_cache=cached, **made.options))
    assert len(run) == NEW


@pytest.mark.parametrize("cached", [True, False])
def test_every_token_has_its_own_pass(made, cached):
    run = generated(made, cached)
    assert run.at(token=0).states.shape[2] == PROMPT
    assert run.at(token=3).states.shape[2] == (1 if cached else PROMPT + 3)
    assert torch.equal(run.at(token=3)[1], run.at(token=3).states[1])
    assert torch.equal(run.at(token=3)[-1], run.at(token=3).states[-1])


@pytest.mark.parametrize("cached", [True, False])
def test_the_states_are_those_that_a_whole_pass_over_the_same_tokens_has(made, cached):
    """These caches keep a slot for each iteration, so that they lose nothing."""
    run = generated(made, cached)
    for token in range(NEW):
        whole = ls.record(made.wrapped, run.tokens[:, : PROMPT + token])
        for field in ("state", *(f"state.{name}" for name in made.wrapped.fields[1:])):
            for k in range(whole.iterations + 1):
                assert torch.allclose(run[field][token, k], whole[field][k][:, -1], atol=1e-5)


def test_states_have_a_token_axis_first(made):
    run = generated(made, True)
    assert run.states.axes == ("token", "iteration", "batch", "width")
    assert run.states.shape[:2] == (NEW, made.wrapped.iterations + 1)
    assert run.states.to_xarray().sel(token=2).dims == ("iteration", "batch", "width")


def test_a_state_of_a_pass_can_be_read_out(made):
    run = generated(made, True).at(token=2)
    assert torch.equal(run.logits[run.iterations], run.output)
    assert run.logits[1].shape == run.output.shape


def test_an_edit_applies_in_every_pass_and_moves_nothing_before_it(made):
    run = generated(made, True)
    pushed = ls.add("state", iteration=1, value=30 * torch.ones(16))
    edited = generated(made, True, edits=[pushed])
    assert torch.equal(edited.at(token=0)[0], run.at(token=0)[0])
    assert torch.allclose(edited.at(token=0)[1], run.at(token=0)[1] + 30)
    assert not torch.equal(edited.at(token=0)[2], run.at(token=0)[2])


def test_a_site_is_recorded_in_every_pass():
    wrapped = ls.wrap(model_of("HRM-Text"))
    sites = ["model.L_module.layers.1.mlp"]
    run = ls.generate(wrapped, torch.tensor([[1, 2, 3]]), max_new_tokens=3, do_sample=False, sites=sites)
    assert run[sites[0]].axes == ("token", "iteration", "low", "batch", "width")
    assert run[sites[0]].shape[:3] == (3, 2, 3)


def test_a_random_first_state_is_what_it_was():
    torch.manual_seed(1)
    wrapped = ls.wrap(RavenForCausalLM().eval())
    tokens = torch.randint(0, 30, (2, 5))
    with ls.recording(wrapped) as run:
        torch.manual_seed(0)
        wrapped(tokens)
        wrapped(tokens[:, :3], num_steps=2)
    assert [one.iterations for one in run] == [6, 2]
    assert torch.equal(run.at(token=0).states.tensor, ls.record(wrapped, tokens, seed=0).states.tensor)


def test_a_generate_of_another_package_is_recorded_too():
    from x_transformers import AutoregressiveWrapper

    torch.manual_seed(1)
    model = x_transformer(looped=True).eval()
    prompt, by = torch.tensor([[1, 2, 3]]), AutoregressiveWrapper(model)
    with ls.recording(ls.wrap(model)) as run:
        tokens = by.generate(prompt, seq_len=3, temperature=0.0)
    assert torch.equal(tokens, by.generate(prompt, seq_len=3, temperature=0.0))
    assert [one.states.shape[2] for one in run] == [3, 1, 1]
    assert [one.iterations for one in run] == [4, 4, 3]  # it leaves the loop once its gate has said so
    assert run.states.iterations == [0, 1, 2]
    assert run.states.tensor[2, 4].isnan().all()


def test_a_module_wrapped_by_its_body_is_recorded_too():
    model = model_of("Ouro")
    wrapped = ls.wrap(model, body=["model.layers.0", "model.layers.1", "model.norm"])
    run = ls.generate(wrapped, torch.tensor([[1, 2, 3]]), max_new_tokens=3)
    own = ls.generate(ls.wrap(model), torch.tensor([[1, 2, 3]]), max_new_tokens=3)
    assert torch.equal(run.states.tensor, own.states.tensor)


def test_nothing_stays_attached_also_when_generation_fails(made):
    def fail(*_: Any) -> None:
        raise RuntimeError("on purpose")

    handle = made.model.model.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        generated(made, True)
    handle.remove()
    assert [name for name, part in made.model.named_modules() if "forward" in vars(part)] == []
    assert made.wrapped.clock.index == ()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda w: ls.generate(ls.wrap(x_transformer(looped=True)), torch.zeros(1, 2)),
            "must have a method generate",
        ),
        (lambda w: ls.recording(nn.Linear(1, 1)).__enter__(), "recording needs what ls.wrap makes"),
        (
            lambda w: ls.recording(w, edits=[ls.swap(0, 1)]).__enter__(),
            "a model that makes its passes by itself follows skip and repeat",
        ),
        (lambda w: ls.generate(w, torch.tensor([[1]]), max_new_tokens=2).at(token=2), r"0\.\.1, but is 2"),
        (
            lambda w: ls.generate(w, torch.tensor([[1]]), max_new_tokens=2)["lm_hed"],
            "was not recorded in any pass",
        ),
        (lambda w: ls.generate(w, torch.tensor([[1]]), sites=["lm_hed"]), "there is no site 'lm_hed'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(call, text):
    with pytest.raises(ls.LoopscopeError, match=text):
        call(ls.wrap(model_of("Ouro")))
