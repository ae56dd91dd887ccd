"""Attention over the iterations: what freezes, the published bound, and what towers."""

import dataclasses
import json
import math
from typing import Any

import pytest
import torch
from torch import nn

import loopscope as ls
import loopscope.analyses.attention as attention  # pyright: ignore[reportMissingImports]
from loopscope import maths
from loopscope.interventions import Edit

TOKENS = torch.randint(0, 7, (4, 9), generator=torch.Generator().manual_seed(0))
SITES = ["core.*.attn.hook_pattern"]


def model(seed: int = 0, **changed) -> Any:
    options = {"layers": (0, 3, 0), "injection": "concat", "position": "none", "step_code": "none"} | changed
    return ls.models.build("universal", vocabulary=7, width=16, heads=2, seed=seed, **options).eval()


def measured(seed: int = 0, iterations: int = 12, **changed):
    return ls.analyses.measure("attention", ls.record(model(seed, **changed), TOKENS, iterations))


def test_what_is_measured_are_the_formulas_on_the_recorded_patterns():
    run = ls.record(model(), TOKENS, 12, sites="all")
    result = ls.analyses.measure("attention", run, extra=20)
    A = torch.stack(
        [run[f"core.{i}.attn.hook_pattern"].tensor for i in range(3)], dim=1
    )  # (t, layer, batch, head, q, k)
    later = ls.resume(run.model, run, 32)
    end = torch.stack([later[f"core.{i}.attn.hook_pattern"][31] for i in range(3)])
    assert result.limit == 31
    assert torch.allclose(result.change, (A[1:] - A[:-1]).norm(dim=(-2, -1)).mean(2), atol=1e-6)
    assert torch.allclose(result.distance, (A - end).norm(dim=(-2, -1)).mean(2), atol=1e-6)
    assert torch.allclose(result.concentration, maths.concentration(A).mean((2, 3)))
    assert torch.allclose(result.mixing, maths.mixing(A).mean((2, 3)))
    x = run["core.1.hook_resid_post"].tensor
    assert torch.allclose(result.entropy[:, 1], maths.residual_entropy(x).mean(1).float(), atol=1e-5)


def test_the_limit_lies_beyond_what_is_shown_so_that_no_distance_is_zero_by_construction():
    result = measured(norm="stream", injection="none")
    assert result.limit > 12
    assert result.distance.shape[0] == 12
    assert float(result.distance[-1].min()) > 0


def test_recording_the_sites_or_not_makes_no_difference():
    bare, whole = ls.record(model(), TOKENS, 12), ls.record(model(), TOKENS, 12, sites="all")
    a, b = (ls.analyses.measure("attention", run) for run in (bare, whole))
    assert torch.allclose(a.change, b.change, atol=1e-6)
    assert a.bounds[0].holds
    assert b.bounds[0].holds is None  # norm_1 is a module, not a hook point: "all" doesn't record it
    assert "it needs ['core.0.norm_1'] recorded too" in b.bounds[0].sentence


@pytest.mark.parametrize("norm", ["pre", "post", "branch", "stream"])
@pytest.mark.parametrize("position", ["none", "rotary"])
@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_the_lipschitz_bound_holds_whatever_the_weights(norm, position, scale):
    net = model(norm=norm, position=position)
    with torch.no_grad():
        for block in net.core:
            block.attn.qkv.weight.mul_(scale)
    result = ls.analyses.measure("attention", ls.record(net, TOKENS, 6), extra=4)
    for bound in result.bounds:
        assert bound.holds
        assert float(bound.max_ratio.nan_to_num(0).max()) <= 1
        assert ("rotary" in bound.form) == (position == "rotary")


def test_the_bound_is_checked_against_weights_that_made_the_patterns():
    """With other weights than those that ran, the check says so instead of passing."""
    net = model()
    run = ls.record(net, TOKENS, 6, sites=["core.*.attn.hook_pattern", "core.*.attn.hook_q", "core.*.norm_1"])
    broken = run["core.0.norm_1"]
    shifted = broken.with_values({index: 0.5 * value + 1 for index, value in broken.items()})
    run = run.with_sites({site: run[site] for site in run.names} | {"core.0.norm_1": shifted})
    from loopscope.analyses.attention.lipschitz_bound import lipschitz_bound  # pyright: ignore[reportMissingImports]

    result = lipschitz_bound(run, "core.0.attn.hook_pattern", 5, 4)
    assert result.holds is None
    assert "aren't a rotation of W_Q x" in result.sentence


def test_a_pattern_that_moves_more_than_its_input_breaks_the_bound():
    net = model()
    run = ls.record(net, TOKENS, 6, sites=["core.*.attn.hook_pattern", "core.*.attn.hook_q", "core.*.norm_1"])
    name = "core.0.attn.hook_pattern"
    eye = torch.eye(9).expand(4, 2, 9, 9)
    values = {(t,): eye if t % 2 else eye.flip(-1) for t in range(6)}
    x = run["core.0.norm_1"]
    still = {(t,): x[0].detach() + 1e-3 * t for t in range(6)}
    q = {
        (t,): torch.einsum(
            "hdw,bpw->bphd", net.core[0].attn.qkv.weight.detach().unflatten(0, (3, 2, -1))[0], v
        )
        for (t,), v in still.items()
    }
    impossible = {  # an attention that no weights could give
        name: ls.States(name, values, run[name].axes, 6),
        "core.0.norm_1": ls.States("core.0.norm_1", still, x.axes, 6),
        "core.0.attn.hook_q": ls.States("core.0.attn.hook_q", q, run["core.0.attn.hook_q"].axes, 6),
    }
    run = run.with_sites({site: run[site] for site in run.names} | impossible)
    from loopscope.analyses.attention.lipschitz_bound import lipschitz_bound  # pyright: ignore[reportMissingImports]

    result = lipschitz_bound(run, name, 5, 4)
    assert result.holds is False
    assert "does NOT hold" in result.sentence


def test_attention_freezes_where_the_state_does_and_not_where_it_goes_on():
    net = model()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if weight.ndim == 2 and "embed" not in name:
                weight.normal_(0, 0.05, generator=generator)
    settled = ls.analyses.measure("attention", ls.record(net, TOKENS, 20))
    assert settled.verdict.name == "settled"
    assert settled.residual < 1e-3
    assert settled.same_layer_fraction == 1

    with torch.no_grad():  # queries and keys that a rotating state keeps turning
        for block in net.core:
            block.attn.qkv.weight.mul_(80)
            block.mlp.requires_grad_(False)
    moving = ls.analyses.measure("attention", ls.record(net, TOKENS, 20), tolerance=1e-9)
    assert moving.verdict.name in ("moving", "partly", "late")
    for verdict in type(moving.verdict):
        other = dataclasses.replace(moving, verdict=verdict)
        said = f"They were followed for {20 + 32} iterations." in other.sentence
        assert said == (verdict.name in ("moving", "partly", "mixed"))
        ended = dataclasses.replace(other, ends_early=True).sentence
        assert ("where the loop ends by itself" in ended) == said


def test_the_null_is_that_of_the_mask():
    result = measured()
    assert result.uniform_baseline["concentration"] == pytest.approx(
        float(maths.concentration(maths.causal(9)))
    )
    assert result.uniform_baseline["mixing"] == pytest.approx(float(maths.mixing(maths.causal(9))))
    uniform = model()
    with torch.no_grad():
        for block in uniform.core:
            block.attn.qkv.weight.zero_()
    flat = ls.analyses.measure("attention", ls.record(uniform, TOKENS, 6))
    assert float(flat.concentration[-1].mean()) == pytest.approx(
        result.uniform_baseline["concentration"], rel=1e-5
    )
    assert float(flat.mixing[-1].mean()) == pytest.approx(result.uniform_baseline["mixing"], rel=1e-5)


def test_a_massive_activation_is_found_where_it_is():
    def put(t: int) -> Edit:
        value = torch.zeros(4, 16)
        value[:, 3] = 1e5
        return ls.add("state", value=value, iteration=t, position=0)

    net = model(norm="pre", injection="none")
    bare = ls.analyses.measure("attention", ls.record(net, TOKENS, 8, sites=["core.*.attn.hook_pattern"]))
    assert bare.massive == ()
    assert "No massive activations" in str(bare)
    run = ls.record(net, TOKENS, 8, sites=["core.*.attn.hook_pattern"], edits=[put(2)])
    (result, *_) = ls.analyses.measure("attention", run).massive
    assert (result.site, result.first, result.position, result.dimension) == ("state", 2, 0, 3)
    assert result.value == pytest.approx(1e5, rel=1e-2)


def test_patterns_of_somebody_elses_module_are_taken_by_name():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = Body()

        def forward(self, x):
            for _ in range(12):
                x = self.body(x)
            return x

    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.look = nn.Softmax(dim=-1)

        def forward(self, x):
            return 0.5 * (self.look((x @ x.mT)[:, None]) @ x[:, None])[:, 0]

    run = ls.record(ls.wrap(Outer().eval(), body="body"), torch.randn(2, 5, 6), sites=["body.look"])
    result = ls.analyses.measure("attention", run, sites=["body.look"])
    assert result.verdict.name in ("settled", "late")
    assert result.bounds[0].holds is None
    assert result.uniform_baseline["concentration"] == 0  # no mask


def test_everything_is_in_the_json_and_the_figures_draw():
    result = measured()
    data = json.loads(result.to_json())
    assert data["verdict"]["name"] == result.verdict.name
    assert len(data["bounds"]) == 3
    panels = attention.panels(result)
    assert len(panels) == 4
    for panel in panels:
        panel.figure.to_json()
    assert "relative change below 0.01" in str(result)
    assert "(above 100 and 1000 times the median)" in str(result)


def test_it_applies_only_where_there_is_attention():
    run = ls.iterate(lambda x: 0.5 * x, torch.ones(2, 3), 16)
    assert not attention.applies(run)
    assert attention.applies(ls.record(model(), TOKENS, 4))
    assert not attention.applies(ls.record(model(), TOKENS, 1))
    with pytest.raises(ls.LoopscopeError, match="its model has no hook_pattern"):
        ls.analyses.measure("attention", run)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: measured(iterations=1), "attention needs 2 iterations or more to change, but the run has 1"),
        (
            lambda: ls.analyses.measure("attention", ls.record(model(), TOKENS, 4), tolerance=0.0),
            "attention: tolerance must be a finite number above 0",
        ),
        (
            lambda: ls.analyses.measure(
                "attention", ls.record(model(), TOKENS, 4), sites=["core.0.hook_resid_post"]
            ),
            "must hold patterns",
        ),
        (
            lambda: ls.analyses.measure(
                "attention", ls.record(model(), TOKENS, 4, edits=[ls.skip(iteration=1)])
            ),
            "a run with edits can't be made again from its tokens. Record it with sites=",
        ),
    ],
)
def test_what_cannot_be_measured_is_said(call, sentence):
    with pytest.raises(ls.LoopscopeError, match=sentence):
        call()


def test_a_start_drawn_without_a_seed_is_the_one_of_the_run():
    class Random(type(model())):
        def initial(self, context):
            return torch.randn_like(context.injected)

    torch.manual_seed(0)
    net = Random(model(injection="none", norm="stream").config).eval()
    run = ls.record(net, TOKENS, 3)
    start = ls.patch("state", iteration=0, value=run.states[0])
    patterns = ls.record(net, TOKENS, 3, sites=SITES, edits=[start])[SITES[0].replace("*", "0")].tensor
    moves = (patterns[1:] - patterns[:-1]).norm(dim=(-2, -1)).mean(1)  # (t, head)
    result = ls.analyses.measure("attention", run)
    assert torch.allclose(result.change[:2, 0], moves, atol=1e-5)


def test_noise_that_no_seed_gives_again_is_noticed():
    class Noisy(type(model())):
        def step(self, state, context, t):
            return super().step(state, context, t) + torch.randn_like(state)

    torch.manual_seed(0)
    net = Noisy(model(injection="none", norm="stream").config).eval()
    with pytest.raises(ls.LoopscopeError, match="gives other states .a random start without a seed"):
        ls.analyses.measure("attention", ls.record(net, TOKENS, 3))
    assert math.isfinite(ls.analyses.measure("attention", ls.record(net, TOKENS, 3, seed=4)).residual)
