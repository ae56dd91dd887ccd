"""Attention patterns of models of transformers, by iteration, as sites."""

from typing import Any

import pytest
import torch

import loopscope as ls

from ..toys.small_models import albert, hrm_text
from ..toys.text_tokenizers import looped_gpt2

TOKENS = torch.tensor([[5, 6, 7, 8, 1], [9, 3, 9, 3, 2]])
MAKERS = {
    "HRM-Text": (lambda: hrm_text(pad_token_id=None), None, "model.H_module.layers.0.self_attn"),
    "HRM-Text by its body": (
        lambda: hrm_text(pad_token_id=None), "model.H_module", "model.H_module.layers.0.self_attn"
    ),
    "ALBERT": (albert, None, "albert.encoder.albert_layer_groups.0.albert_layers.0.attention"),
    "a looped GPT-2": (lambda: looped_gpt2(40), "transformer.h.0", "transformer.h.0.attn"),
}  # fmt: skip


@pytest.fixture(scope="module", params=MAKERS)
def case(request: Any) -> tuple[Any, Any, str]:
    make, body, attention = MAKERS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module = make().eval()
    module.set_attn_implementation("eager")
    if module.config._attn_implementation != "eager":
        pytest.skip("this transformers is too old to switch the attention of a model that was made")
    return module, ls.wrap(module) if body is None else ls.wrap(module, body=body), attention


def patterns_seen(module: Any, attention: str) -> list[torch.Tensor]:
    """The patterns of every call, by a plain hook of torch."""
    seen: list[torch.Tensor] = []
    hook = module.get_submodule(attention).register_forward_hook(lambda *call: seen.append(call[2][1]))
    with torch.no_grad():
        module(TOKENS)
    hook.remove()
    return seen


def test_patterns_are_those_of_every_iteration(case):
    module, model, attention = case
    site, seen = f"{attention}.hook_pattern", patterns_seen(module, attention)
    run = ls.record(model, TOKENS, sites=[site, attention])
    assert run[site].axes == ("iteration", "batch", "head", "position", "key")
    assert len(run[site]) == len(seen) == run.iterations
    for t, pattern in enumerate(seen):
        torch.testing.assert_close(run[site][t], pattern, atol=0, rtol=0)
    torch.testing.assert_close(run[site][-1].sum(-1), torch.ones(2, 2, 5))
    assert torch.equal(run.states[-1], ls.record(model, TOKENS).states[-1])
    assert site in ls.record(model, TOKENS, sites="*.hook_pattern").names


def test_a_pattern_can_be_recorded_but_not_edited(case):
    _, model, attention = case
    edit = ls.ablate(f"{attention}.hook_pattern")
    with pytest.raises(ls.LoopscopeError, match=f"can be recorded but not edited.*gives: '{attention}'"):
        ls.record(model, TOKENS, edits=[edit])


def test_without_a_pattern_the_error_says_how_to_switch(case):
    module, model, attention = case
    module.set_attn_implementation("sdpa")
    try:
        for site in (f"{attention}.hook_pattern", "*.hook_pattern"):
            with pytest.raises(ls.LoopscopeError, match=r"set_attn_implementation\('eager'\)"):
                ls.record(model, TOKENS, sites=[site])
        assert not any("hook_pattern" in name for name in ls.record(model, TOKENS, sites="all").names)
    finally:
        module.set_attn_implementation("eager")
    assert ls.record(model, TOKENS, sites=[f"{attention}.hook_pattern"])


@pytest.fixture(scope="module")
def hrm() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module = hrm_text(eos_token_id=None, pad_token_id=None).eval()
    module.set_attn_implementation("eager")
    return ls.wrap(module)


def test_patterns_have_the_axis_of_an_inner_loop_and_are_measured(hrm):
    run = ls.record(hrm, TOKENS, sites="*.hook_pattern")
    inner = run["model.L_module.layers.0.self_attn.hook_pattern"]
    assert inner.axes == ("iteration", "low", "batch", "head", "position", "key")
    assert ls.analyses.measure("attention", run).summary()


@pytest.mark.parametrize("method", ["exact", "attribution"])
def test_patching_a_pattern_is_refused_rather_than_without_effect(hrm, method):
    run = ls.record(hrm, TOKENS)
    site = "model.H_module.layers.0.self_attn.hook_pattern"
    with pytest.raises(ls.LoopscopeError, match="can be recorded but not edited"):
        ls.effects(run, "zero", sites=site, method=method, metric=lambda logits: logits[:, -1, 0])


def test_generation_has_the_patterns_of_each_token(hrm):
    site = "model.H_module.layers.0.self_attn.hook_pattern"
    out = ls.generate(hrm, TOKENS, max_new_tokens=3, do_sample=False, sites=[site])
    assert [run[site][0].shape[-2:] for run in out.runs] == [(5, 5), (1, 6), (1, 7)]
