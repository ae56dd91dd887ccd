"""Attention patterns of models of transformers, by iteration, as sites."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import loopscope as ls
from loopscope.core.fused_attention import fused_pattern
from loopscope.core.pattern_sites import listed, with_patterns
from loopscope.core.sites import modules_of, resolve

from ..toys.family_doubles import OuroConfig, OuroForCausalLM, RavenConfig, RavenForCausalLM
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


def test_patterns_of_torchs_attention_are_those_of_the_plain_implementation(case):
    module, model, attention = case
    site, plain = f"{attention}.hook_pattern", patterns_seen(module, attention)
    module.set_attn_implementation("sdpa")
    try:
        run = ls.record(model, TOKENS, sites="*.hook_pattern")
        assert run[site].axes == ("iteration", "batch", "head", "position", "key")
        for t, pattern in enumerate(plain):
            torch.testing.assert_close(run[site][t], pattern)
        assert torch.equal(run.states[-1], ls.record(model, TOKENS).states[-1])
        assert not any("hook_pattern" in name for name in ls.record(model, TOKENS, sites="all").names)
        with pytest.raises(ls.LoopscopeError, match="can be recorded but not edited"):
            ls.record(model, TOKENS, edits=[ls.ablate(site)])
    finally:
        module.set_attn_implementation("eager")


def test_without_a_pattern_the_error_says_how_to_switch(case):
    module, _, attention = case
    module.config._attn_implementation = "flex_attention"
    try:
        sites = with_patterns(modules_of(module))
        for site in (f"{attention}.hook_pattern", "*.hook_pattern"):
            with pytest.raises(ls.LoopscopeError, match=r"set_attn_implementation\('eager'\)"):
                resolve(site, sites, listed(sites))
    finally:
        module.set_attn_implementation("eager")


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


ARGUMENTS = {
    "nothing": {},
    "causal": {"is_causal": True},
    "a mask": {"attn_mask": torch.tensor([[1, 0, 0, 1], [1, 1, 0, 0], [0, 1, 1, 1]]).bool()},
    "an added mask": {"attn_mask": torch.linspace(-2, 2, 12).reshape(3, 4)},
    "a position that sees nothing": {"attn_mask": torch.tensor([[1] * 4, [0] * 4, [1] * 4]).bool()},
    "a scale": {"scale": 0.3},
    "groups of heads": {"enable_gqa": True},
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_the_values_weighted_by_the_pattern_are_what_torch_computes(case):
    options, draw = ARGUMENTS[case], torch.Generator().manual_seed(0)
    heads = 2 if "enable_gqa" in options else 4
    q, (k, v) = torch.randn(2, 4, 3, 5, generator=draw), torch.randn(2, 2, heads, 4, 5, generator=draw)
    pattern = fused_pattern(q, k, v, **options)
    v = v.repeat_interleave(4 // heads, 1)
    expected = F.scaled_dot_product_attention(q, k.repeat_interleave(4 // heads, 1), v, **options)
    torch.testing.assert_close(pattern @ v, expected.nan_to_num(0.0))


OWN = {
    "Huginn": (lambda: RavenForCausalLM(RavenConfig()).eval(), "transformer.core_block.0.attn", 2),
    "Ouro": (lambda: OuroForCausalLM(OuroConfig()).eval(), "model.layers.1.self_attn", 2),
}


@pytest.mark.parametrize("case", OWN)
def test_attention_of_a_familys_own_code_has_patterns_by_iteration(case):
    make, attention, heads = OWN[case]
    model, site = ls.wrap(make()), f"{attention}.hook_pattern"
    run = ls.record(model, TOKENS, sites=[site], seed=0)
    assert run[site].axes == ("iteration", "batch", "head", "position", "key")
    assert len(run[site]) == run.iterations > 1
    assert run[site].shape[1:] == (2, heads, 5, 5)
    torch.testing.assert_close(run[site][-1].sum(-1), torch.ones(2, heads, 5))
    assert not run[site][-1].triu(1).any() and not torch.equal(run[site][0], run[site][-1])
    assert torch.equal(run.states[-1], ls.record(model, TOKENS, seed=0).states[-1])
    assert ls.analyses.measure("attention", run).summary()


def test_code_that_calls_torchs_attention_has_a_pattern_whatever_its_configuration_says():
    """As Huginn's does, whose configuration of transformers may say "eager"."""
    module = RavenForCausalLM(RavenConfig()).eval()
    attention: Any = module.get_submodule("transformer.core_block.0.attn")
    attention.config = SimpleNamespace(_attn_implementation="eager")
    site = "transformer.core_block.0.attn.hook_pattern"
    run = ls.record(ls.wrap(module), TOKENS, sites=[site], seed=0)
    torch.testing.assert_close(run[site][-1].sum(-1), torch.ones(2, 2, 5))


class Attending(nn.Module):
    """Calls torch's attention a number of times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.times):
            x = x + F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0]
        return x


class AttendingLoop(nn.Module):
    def __init__(self, times: int) -> None:
        super().__init__()
        self.embed, self.body, self.head = nn.Embedding(10, 8), Attending(times), nn.Linear(8, 10)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for _ in range(3):
            x = self.body(x)
        return self.head(x)


@pytest.mark.parametrize(("times", "said"), [(0, "none"), (1, None), (2, "2")])
def test_a_module_that_attends_several_times_or_never_has_no_pattern_and_says_so(times, said):
    model = ls.wrap(AttendingLoop(times), body="body")
    if said is None:
        assert ls.record(model, TOKENS, sites="body.hook_pattern")["body.hook_pattern"].shape == (
            3,
            2,
            1,
            5,
            5,
        )
        return
    with pytest.raises(ls.LoopscopeError, match=f"but a call of 'body' made {said}. Leave that site out"):
        ls.record(model, TOKENS, sites="body.hook_pattern")
