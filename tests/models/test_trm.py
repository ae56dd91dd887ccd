"""The tiny recursive model and its options, against their equations written out."""

import pytest
import torch

import loopscope as ls
from loopscope.models import trm

from ..toys.reference_board_blocks import level

SHAPE = {"vocabulary": 5, "width": 24, "heads": 3, "layers": 2, "low_updates": 3, "cycles": 2, "length": 12}
WIRINGS = ["none", "low", "high", "both"]


def built(**options):
    return ls.models.build("trm", **SHAPE | options).double().eval()


@pytest.fixture
def tokens():
    return torch.randint(0, 5, (4, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("wiring", WIRINGS)
def test_it_computes_the_equations_of_its_wiring(wiring, tokens):
    model = built(input=wiring)
    weights = model.state_dict()
    x = (weights["placed.embed.table.weight"][tokens] + weights["placed.place"][:9]) / 2**0.5
    n_low, n_high = {"none": (0, 0), "low": (1, 0), "high": (0, 1), "both": (1, 1)}[wiring]
    high, low = (weights[f"start.{name}"].expand_as(x) for name in ("high", "low"))
    high = x if wiring == "none" else high
    for _ in range(4):
        for _ in range(3):
            low = level(weights, "core", 2, 3, low + high + n_low * x)
        high = level(weights, "core", 2, 3, high + low + n_high * x)
    run = ls.record(model, tokens, iterations=4)
    assert torch.allclose(run.output, high @ weights["unembed.weight"].T, atol=1e-10)
    assert torch.allclose(run["state.low"][4], low, atol=1e-10)


@pytest.mark.parametrize("wiring", WIRINGS)
def test_the_wiring_says_which_role_receives_the_input(wiring, tokens):
    model = built(input=wiring)
    run = ls.record(model, tokens, iterations=3, sites=["core_in", "hook_low"])
    with torch.no_grad():
        x = model.encode(tokens).x
    before = torch.cat([run["state.low"][:-1].tensor[:, None], run["hook_low"].tensor[:, :-1]], dim=1)
    to_low = run["core_in"].tensor - before - run.states[:-1].tensor[:, None]
    to_high = run["core_in@iteration"].tensor - run.states[:-1].tensor - run["state.low"][1:].tensor
    for received, role in ((to_low, "low"), (to_high, "high")):
        expected = x if wiring in (role, "both") else torch.zeros_like(x)
        assert torch.allclose(received, expected.expand_as(received), atol=1e-12)


def test_without_wiring_the_input_is_told_once_by_the_start(tokens):
    model = built(input="none")
    run = ls.record(model, tokens, iterations=3)
    assert torch.equal(run.states[0], model.encode(tokens).x)
    elsewhere = model.encode((tokens + 1) % 5)
    assert torch.equal(model.step(run.state(0), elsewhere, 0).high, run.states[1])


def test_an_unknown_wiring_is_refused():
    with pytest.raises(ls.LoopscopeError, match="input of trm must be"):
        built(input="hihg")


def test_one_network_has_both_roles():
    model, pair = ls.models.build("trm", **SHAPE), ls.models.build("hrm", **SHAPE)
    count = {
        name: sum(p.numel() for p in m.parameters())
        for name, m in (("trm", model), ("hrm", pair), ("one", pair.low_level))
    }
    assert count["hrm"] - count["trm"] == count["one"] + 25, "one network, and the head's second output"
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert names == {"placed", "core", "unembed", "q_head"}


def test_gradient_goes_through_all_updates_of_an_iteration(tokens):
    model = built().train()
    context = model.encode(tokens)
    start = type(model.initial(context))(
        *(z.detach().clone().requires_grad_() for z in model.initial(context))
    )
    model.step(start, context, 0).high.square().sum().backward()
    assert (start.low.grad != 0).any() and (start.high.grad != 0).any()


def test_a_damped_update_keeps_a_share_of_the_old_state_and_noise_is_added_to_it(tokens):
    plain, damped = built(low_updates=1), built(low_updates=1, damping=0.75, noise=0.5)
    damped.load_state_dict(plain.state_dict())
    context = plain.encode(tokens)
    start = plain.initial(context)
    torch.manual_seed(7)
    noise = [torch.randn(start.high.shape, dtype=torch.float64) for _ in range(2)]
    low = plain.core(start.low + start.high + context.x, context.positions)
    low = 0.25 * start.low + 0.75 * low + 0.5 * noise[0]
    high = plain.core(start.high + low, context.positions)
    high = 0.25 * start.high + 0.75 * high + 0.5 * noise[1]
    torch.manual_seed(7)
    result = damped.step(start, context, 0)
    assert torch.allclose(result.low, low, atol=1e-12) and torch.allclose(result.high, high, atol=1e-12)


def test_a_random_start_is_drawn_for_every_position_and_by_the_seed(tokens):
    model = built(start="random")
    first, again, other = (ls.record(model, tokens, iterations=1, seed=s) for s in (0, 0, 1))
    start = torch.cat([first.states[0], first["state.low"][0]])
    assert len(start.flatten().unique()) == start.numel() and start.abs().max() <= 2
    assert torch.equal(first.states.tensor, again.states.tensor)
    assert (first.states[0] != other.states[0]).any()
    assert not any(name.startswith("start") for name in model.state_dict())


def test_it_halts_at_the_first_segment_judged_right(tokens):
    model = built()
    torch.manual_seed(1)
    torch.nn.init.normal_(model.q_head.linear.weight)
    torch.nn.init.zeros_(model.q_head.linear.bias)
    run = ls.record(model, tokens, iterations=8)
    q = torch.stack([model.q_values(run.state(k))[:, 0] for k in (2, 4, 6, 8)]).detach()
    threshold = q.amax(0).sort().values[1:3].mean()
    with torch.no_grad():  # so that some rows halt and others don't
        model.q_head.linear.bias.fill_(-threshold)
    halting = ls.record(model, tokens, iterations=8).halting
    assert halting.halted.any() and not halting.halted.all()
    for row, judged in enumerate((q > threshold).T.tolist()):
        expected = 2 * judged.index(True) + 1 if any(judged) else 7
        assert (halting.iteration[row] == expected).all()
        assert halting.weights[:, row].argmax(0).eq(expected).all()


def judged(**options):
    """A model whose head has an opinion."""
    model = built(**options)
    torch.manual_seed(2)
    torch.nn.init.normal_(model.q_head.linear.weight)
    return model


def test_the_first_rollout_is_the_model_itself_and_the_choice_is_by_q(tokens):
    model = judged()
    result = trm.rollouts(model, tokens, 5, noise=1.0, segments=2)
    assert torch.equal(result.answers[0], model(tokens, 4).argmax(-1))
    assert torch.allclose(result.q[0], model.q_values(ls.record(model, tokens, iterations=4).state(4))[:, 0])
    assert len(result.q[:, 0].unique()) == 5 and len(result.best.unique()) > 1
    for row in range(4):
        best = result.q[:, row].tolist().index(result.q[:, row].max())
        assert result.best[row] == best
        assert torch.equal(result.logits[row].argmax(-1), result.answers[best, row])


def test_rollouts_depend_on_their_seed_alone(tokens):
    model = judged()
    torch.manual_seed(5)
    first = trm.rollouts(model, tokens, 3, segments=2, seed=1)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after), "the caller's own stream is left as it was"
    assert torch.equal(first.q, trm.rollouts(model, tokens, 3, segments=2, seed=1).q)
    assert (first.q[1:] != trm.rollouts(model, tokens, 3, segments=2, seed=2).q[1:]).any()


@pytest.mark.parametrize("into, moves", [("high", True), ("low", False), ("both", True)])
def test_noise_enters_the_state_that_is_named(into, moves, tokens):
    """A model that keeps its states (damping 0) shows in its high state exactly the noise that went
    there."""
    model = judged(damping=0.0)
    result = trm.rollouts(model, tokens, 3, noise=0.5, into=into, segments=2)
    alike = (result.q == result.q[:1]).all()
    assert bool(alike) != moves


def test_rollouts_say_what_they_need(tokens):
    with pytest.raises(ls.LoopscopeError, match="into must be 'high', 'low' or 'both', but is 'z_L'"):
        trm.rollouts(built(), tokens, 2, into="z_L")
    with pytest.raises(ls.LoopscopeError, match="count must be a whole number, 1 or more, but is 0"):
        trm.rollouts(built(), tokens, 0)
