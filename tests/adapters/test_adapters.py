"""The laws of the instrument, on models that others wrote: every known family, wrapped without a
hint."""

import sys
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.adapters import FAMILIES

from ..toys.family_doubles import OuroConfig, OuroForCausalLM, RavenConfig, RavenForCausalLM
from ..toys.parcae_double import Parcae
from ..toys.small_models import albert, bridge, hrm_text, tiny_recursive, x_transformer
from ..toys.stack_doubles import GPT, MoEUTLM

SEED = 3


class Case(NamedTuple):
    build: Any
    count: int
    """How often the model's own loop runs."""
    inside: tuple[str, dict[str, int]]
    """A module inside the loop, and the inner index of a call of it."""
    vocabulary: int = 40
    inputs: dict[str, Any] = {}
    iterations: int | None = None


CASES = {
    "HRM-Text": Case(hrm_text, 2, ("model.L_module.layers.0.mlp", {"low": 1})),
    "HRM-Text, masked": Case(
        hrm_text,
        2,
        ("model.L_module", {"low": 2}),
        inputs={"attention_mask": torch.tensor([[0, 0, 1, 1, 1], [1] * 5])},
    ),
    "HRM-Text without its head": Case(lambda: hrm_text().model, 2, ("H_module", {})),
    "ALBERT": Case(albert, 6, ("albert.encoder.albert_layer_groups.0.albert_layers.0.attention", {})),
    "ALBERT of two groups": Case(
        lambda: albert(num_hidden_groups=2), 6, ("albert.encoder.albert_layer_groups.1.albert_layers.0", {})
    ),
    "ALBERT that classifies": Case(
        lambda: albert("AlbertForSequenceClassification"), 6, ("albert.encoder.albert_layer_groups.0", {})
    ),
    "ALBERT without a head": Case(lambda: albert("AlbertModel"), 6, ("encoder.albert_layer_groups.0", {})),
    "Ouro": Case(lambda: OuroForCausalLM(OuroConfig(dropout=0.1)), 4, ("model.layers.1.self_attn", {})),
    "Ouro, masked": Case(
        OuroForCausalLM,
        4,
        ("model.norm", {}),
        inputs={"attention_mask": torch.tensor([[0, 0, 1, 1, 1], [1] * 5])},
    ),
    "Huginn": Case(RavenForCausalLM, 6, ("transformer.core_block.1.mlp", {})),
    "Huginn of five, three with gradient": Case(
        RavenForCausalLM, 5, ("transformer.adapter", {}), inputs={"num_steps": (2, 3)}
    ),
    "Huginn of one block": Case(
        lambda: RavenForCausalLM(RavenConfig(n_layers_in_recurrent_block=1, n_layers_in_prelude=1)),
        6,
        ("transformer.core_block.0", {}),
    ),
    "Parcae": Case(
        Parcae, 5, ("value_embeds.3", {}), inputs={"num_steps_pair": (2, 3), "return_logits": True}
    ),
    "x-transformers, looped": Case(lambda: x_transformer(looped=True), 4, ("attn_layers.layers.1.1", {})),
    "x-transformers, looped seven times": Case(
        lambda: x_transformer(looped=True), 7, ("attn_layers.final_norm", {}), inputs={"looped_steps": 7}
    ),
    "x-transformers, tied": Case(lambda: x_transformer(looped=False), 5, ("attn_layers.layers.0.1", {})),
    "MoEUT": Case(MoEUTLM, 3, ("transformer.layers.1.ffn", {})),
    "looped_nanochat": Case(GPT, 4, ("transformer.recur.1.attn", {})),
    "looped_nanochat, six times from noise": Case(
        lambda: GPT("random_start"), 6, ("inject", {}), inputs={"num_recur": 6}
    ),
    "TransformerBridge": Case(bridge, 2, ("L_blocks.0.attn.hook_z", {"low": 1})),
}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    torch.manual_seed(1)
    own = CASES[request.param]
    model = own.build().eval()
    tokens = torch.randint(0, own.vocabulary, (2, 5), generator=torch.Generator().manual_seed(5))
    return SimpleNamespace(model=model, wrapped=ls.wrap(model), tokens=tokens, **own._asdict())


def bare(case) -> torch.Tensor:
    """What the model itself answers."""
    torch.manual_seed(SEED)
    return case.wrapped.logits_in(case.model(case.tokens, **case.inputs))


def recorded(case, **options) -> ls.Run:
    return ls.record(case.wrapped, case.tokens, seed=SEED, **case.inputs, **options)


def attached(module: nn.Module) -> list[str]:
    return [
        name
        for name, part in module.named_modules()
        if "forward" in vars(part) or (part._forward_hooks and type(part).__name__ != "HookPoint")
    ]


def test_recording_changes_not_a_bit(case):
    assert torch.equal(bare(case), recorded(case).output)
    assert torch.equal(bare(case), recorded(case, sites="all").output)
    assert torch.equal(bare(case), bare(SimpleNamespace(**vars(case) | {"model": case.wrapped})))


def test_in_training_the_same_seed_gives_the_same_answer(case):
    case.model.train()
    try:
        own = bare(case)
        run = recorded(case, grad=True)
    finally:
        case.model.eval()
    assert torch.equal(own, run.output)


def test_there_are_as_many_states_as_iterations_and_one(case):
    run = recorded(case)
    assert run.iterations == case.count
    assert len(run.states) == case.count + 1
    assert run.states.axes == ("iteration", "batch", "position", "width")


def test_the_four_functions_give_the_models_own_answer(case):
    off = case.wrapped.difference(case.tokens, **case.inputs)
    sys.stdout.write(f"the largest difference is {off:.1e}\n")
    assert off <= 1e-5
    assert torch.equal(recorded(case).logits[case.count], recorded(case).output)


def test_a_site_inside_the_loop_has_an_entry_for_every_call(case):
    site, inner = case.inside
    result = recorded(case, sites=[site])[site]
    assert result.axes[: 1 + len(inner)] == ("iteration", *inner)
    first = recorded(case).iterations - len(result.iterations)  # a group of ALBERT's serves a stretch
    assert result.iterations == list(range(first, case.count))


def test_an_edit_in_the_loop_changes_its_own_call_and_nothing_before_it(case):
    site, inner = case.inside
    run = recorded(case, sites=[site])
    t = run[site].iterations[-1]
    edited = recorded(case, sites=[site], edits=[ls.add(site, iteration=t, value=1.0, **inner)])
    for k in range(t + 1):
        assert torch.equal(edited.states[k], run.states[k])
    assert not torch.equal(edited.states[t + 1], run.states[t + 1])
    turn = inner.get("low")
    before, after = run[site][t], edited[site][t]
    if turn is not None:
        assert torch.equal(after[:turn], before[:turn])
        before, after = before[turn], after[turn]
    assert torch.allclose(after, before + 1)


def test_it_passes_the_self_check(case):
    result = ls.check(case.wrapped, case.tokens, seed=SEED, **case.inputs)
    assert result.passed and not result.warnings, str(result)


def test_its_loop_is_found_without_knowing_the_family(case):
    result = ls.find_loops(case.model, case.tokens, **case.inputs)
    assert result.has_adapter
    assert sum(loop.times for loop in result.loops) == case.count
    assert [loop.times for loop in result.loops[0].loops] == [3 for _ in case.wrapped.inner_loop_modules()]


def test_a_late_state_can_be_put_in_the_place_of_an_early_one(case):
    run = recorded(case)
    early = ls.patch("state", iteration=1, value=run.states[-1])
    edited = recorded(case, edits=[early])
    assert torch.equal(edited.states[0], run.states[0])
    assert torch.equal(edited.states[1], run.states[-1])
    assert not torch.equal(edited.output, run.output)


def test_what_is_resumed_is_the_run(case):
    run = recorded(case)
    later = ls.resume(case.wrapped, run, case.count, start=1)
    assert torch.equal(later.output, run.output)


def test_nothing_stays_attached_also_after_an_exception(case):
    recorded(case, sites="all")
    assert attached(case.model) == []
    with pytest.raises(RuntimeError, match="on purpose"):
        recorded(case, sites=lambda name: fail(name))
    site, _ = case.inside
    with pytest.raises((ls.LoopscopeError, RuntimeError)):
        recorded(case, sites="all", edits=[ls.patch(site, value=torch.zeros(97, 3))])
    assert attached(case.model) == []
    assert case.wrapped.clock.index == ()
    assert torch.equal(bare(case), recorded(case).output)


def fail(name: str) -> bool:
    raise RuntimeError("on purpose")


def test_a_run_is_saved_and_read_again(case, tmp_path):
    run = recorded(case)
    run.save(tmp_path / "run.safetensors")
    again = ls.load_run(tmp_path / "run.safetensors", model=case.wrapped)
    assert torch.equal(again.states[-1], run.states[-1])
    assert torch.equal(again.logits[1], run.logits[1])


def test_the_dynamics_of_a_wrapped_model_can_be_measured(case):
    inputs = {
        name: value[1:, :3] if isinstance(value, torch.Tensor) else value
        for name, value in case.inputs.items()
    }
    run = ls.record(case.wrapped, case.tokens[1:, :3], seed=SEED, **inputs)
    result = ls.analyses.measure("fixed_points", run, extra=4, perturbed=0, random=1)
    assert "float64" in result.continuation
    assert str(ls.analyses.measure("convergence", run))


# One family's own
# ------------------------------------------------------------------------------------------


def test_hrm_texts_low_states_are_the_last_turns_of_their_cycles():
    torch.manual_seed(1)
    wrapped = ls.wrap(hrm_text().eval())
    run = ls.record(
        wrapped, torch.randint(0, 40, (2, 5)), sites=["model.L_module", "model.H_module", "low_in"]
    )
    low = run["state.low"]
    for k in (1, 2):
        assert torch.equal(low[k], run["model.L_module"][k - 1][-1])
        assert torch.equal(run.states[k], run["model.H_module"][k - 1])
    assert torch.equal(run["low_in"][1][0], low[1] + run.states[1])


def test_passes_that_the_model_makes_without_gradient_are_recorded_and_marked():
    torch.manual_seed(1)
    model = hrm_text().eval()
    run = ls.record(ls.wrap(model), torch.randint(0, 40, (2, 5)), sites=["model.L_module"], grad=True)
    padded = model.model.L_bp_cycles_padded
    cut = [(h, low) for h in range(2) for low in range(3 - padded[h])]
    assert list(run["model.L_module"].without_grad) == cut
    assert run.states.without_grad == ()
    torch.autograd.grad(run.output.sum(), run.states[1])


def test_a_jacobian_is_that_of_the_whole_map_though_the_model_cuts_its_gradient():
    torch.manual_seed(1)
    wrapped = ls.wrap(RavenForCausalLM().eval())
    tokens = torch.randint(0, 40, (1, 3))
    run = ls.record(wrapped, tokens, seed=0)
    result = ls.analyses.measure("stability", run, examples=1)
    assert float(result.singular_value[0]) > 0


@pytest.mark.parametrize("build", [hrm_text, OuroForCausalLM, RavenForCausalLM])
def test_a_pass_that_is_iterated_has_no_cache(build):
    torch.manual_seed(1)
    model = build().eval()
    tokens = torch.randint(0, 38, (2, 5))
    kept = model(tokens, use_cache=True).past_key_values
    with pytest.raises(ls.LoopscopeError, match="must not have a cache, but past_key_values was passed"):
        ls.record(ls.wrap(model), tokens, past_key_values=kept)
    own, asked = (ls.record(ls.wrap(model), tokens, seed=0, **more) for more in ({}, {"use_cache": True}))
    assert torch.equal(own.output, asked.output)


def test_huginns_first_state_follows_the_seed():
    torch.manual_seed(1)
    wrapped = ls.wrap(RavenForCausalLM().eval())
    tokens = torch.randint(0, 40, (2, 5))
    one, two, other = (ls.record(wrapped, tokens, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.states[0], two.states[0])
    assert not torch.equal(one.states[0], other.states[0])
    assert one.origin["seed"] == 0


def test_ouros_exit_distribution_is_that_of_its_gate():
    torch.manual_seed(1)
    model = OuroForCausalLM().eval()
    tokens = torch.randint(0, 40, (2, 5))
    run = ls.record(ls.wrap(model), tokens)
    _, states, gates = model.model(tokens)
    chance = torch.sigmoid(torch.stack(gates)[..., 0])
    going = torch.cumprod(torch.cat([torch.ones_like(chance[:1]), 1 - chance[:-1]]), 0)
    expected = torch.cat([(going * chance)[:-1], going[-1:]])
    assert torch.allclose(run.halting.weights, expected, atol=1e-6)
    assert all(torch.equal(run.states[k + 1], state) for k, state in enumerate(states))


def test_tiny_recursive_model_in_its_two_roles():
    torch.manual_seed(1)
    model = tiny_recursive().eval()
    wrapped = ls.wrap(model)
    tokens = torch.randint(0, 40, (3, 8))
    run = ls.record(wrapped, tokens, sites=["network"])
    output, latent, answer, _ = model(tokens, *model.get_initial())
    assert torch.equal(run.output, answer)
    assert torch.equal(run.states[-1], output)
    assert torch.equal(run["state.latent"][-1], latent)
    assert wrapped.difference(tokens) == 0
    assert run["network"].axes[:2] == ("iteration", "low")
    assert run["network"].shape[:2] == (3, 6)
    assert len(run["network@iteration"]) == 3


def test_tiny_recursive_models_segments_are_those_of_predict():
    torch.manual_seed(1)
    model = tiny_recursive().eval()
    nn.init.normal_(model.to_halt_pred[1].weight, std=30.0)
    tokens = torch.randint(0, 40, (6, 8))
    answers, segments = model.predict(tokens)
    run = ls.record(ls.wrap(model), tokens, iterations=36)
    assert len(segments.unique()) > 1, "the test needs rows that leave at different times"
    assert torch.equal(run.halting.iteration[:, 0] + 1, 3 * segments)
    for row, segment in enumerate(segments.tolist()):
        assert torch.equal(run.logits[3 * segment][row].argmax(-1), answers[row])


def test_tiny_recursive_model_halts_at_a_chance_of_one_half_too():
    """Its head begins with zeros: every sequence then leaves after the first segment."""
    torch.manual_seed(1)
    model = tiny_recursive().eval()
    tokens = torch.randint(0, 40, (2, 8))
    run = ls.record(ls.wrap(model), tokens, iterations=6)
    assert model.predict(tokens)[1].tolist() == [1, 1]
    assert run.halting.iteration.unique().tolist() == [2]
    assert run.halting.halted.all()


def test_what_is_run_again_for_the_read_out_is_not_recorded_again():
    torch.manual_seed(1)
    tokens = torch.randint(0, 40, (2, 5))
    run = ls.record(ls.wrap(albert().eval()), tokens, sites="all")
    assert run["albert.embeddings"].shape == (2, 5, 8)
    assert run["predictions.decoder"].shape == (2, 5, 40)
    looped = ls.record(ls.wrap(x_transformer(looped=True).eval()), tokens, sites="all")
    assert looped["token_emb"].shape == (2, 5, 16)
    assert "exit_gate@outside" not in looped


def test_an_iteration_that_opens_with_an_inner_loop_begins_once():
    torch.manual_seed(1)
    model = hrm_text().eval()
    wrapped = ls.wrap(model, body=["model.L_module", "model.H_module"], inner={"low": "model.L_module"})
    tokens = torch.randint(0, 40, (2, 5))
    run, own = ls.record(wrapped, tokens, sites=["model.L_module"]), ls.record(ls.wrap(model), tokens)
    assert run["core_in"].axes == ("iteration", "batch", "position", "width")
    assert run["model.L_module"].shape[:2] == (2, 3)
    assert torch.equal(run.states[-1], own.states[-1])


def test_layers_that_hand_on_more_than_the_stream_are_refused():
    with pytest.raises(ls.LoopscopeError, match="must pass on the residual stream alone"):
        ls.wrap(x_transformer(looped=False, add_value_residual=True))
    with pytest.raises(ls.LoopscopeError, match="which isn't one order again and again"):
        ls.wrap(x_transformer(looped=False, weight_tie_layers=False))


def test_what_is_of_no_known_family_needs_its_body_named():
    with pytest.raises(
        ls.LoopscopeError, match=r"wrap needs the name of the part.*print\(ls.find_loops\(model, tokens\)\)"
    ):
        ls.wrap(nn.Linear(2, 2))
    with pytest.raises(ls.LoopscopeError, match="isn't wrapped yet"):
        ls.wrap(ls.wrap(OuroForCausalLM()))


def test_a_class_of_ones_own_that_inherits_from_a_family_is_of_it():
    class Mine(OuroForCausalLM):
        pass

    torch.manual_seed(1)
    assert ls.record(ls.wrap(Mine().eval()), torch.randint(0, 40, (1, 4))).iterations == 4
    assert "OuroForCausalLM" in FAMILIES
