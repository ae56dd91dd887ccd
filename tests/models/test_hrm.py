"""The hierarchical reasoning model, against its equations written out."""

import pytest
import torch

import loopscope as ls
from loopscope.nn import InitialStates, level_network

from ..toys import reference_board_blocks as transcribed

SHAPE = {"vocabulary": 5, "width": 24, "heads": 3, "layers": 2, "low_updates": 3, "cycles": 2, "length": 12}


@pytest.fixture
def model():
    return ls.models.build("hrm", **SHAPE).double().eval()


@pytest.fixture
def tokens():
    return torch.randint(0, 5, (4, 9), generator=torch.Generator().manual_seed(0))


def cycles(weights, tokens, count):
    """The paper's loop: the logits after so many high cycles, and every low state on the way."""
    x = weights["placed.embed.table.weight"][tokens] + weights["placed.place"][: tokens.shape[1]]
    x = x / 2**0.5
    high, low = (weights[f"start.{name}"].expand_as(x) for name in ("high", "low"))
    lows = []
    for _ in range(count):
        for _ in range(3):
            low = transcribed.level(weights, "low_level", 2, 3, low + high + x)
            lows.append(low)
        high = transcribed.level(weights, "high_level", 2, 3, high + low)
    return high @ weights["unembed.weight"].T, torch.stack(lows)


def test_it_computes_the_papers_equations(model, tokens):
    with torch.no_grad():
        expected, lows = cycles(model.state_dict(), tokens, 4)
    run = ls.record(model, tokens, iterations=4, sites=["hook_low"])
    assert torch.allclose(run.output, expected, atol=1e-10)
    assert torch.allclose(run["hook_low"].tensor.flatten(0, 1), lows, atol=1e-10)


def test_the_low_updates_are_an_axis_of_their_own(model, tokens):
    run = ls.record(
        model, tokens, iterations=4, sites=["hook_low", "low_level.1.attn.*", "high_level.1.attn.*"]
    )
    assert run["hook_low"].axes == ("iteration", "low", "batch", "position", "width")
    assert run["low_level.1.attn.hook_pattern"].shape == (4, 3, 4, 3, 9, 9)
    assert run["high_level.1.attn.hook_pattern"].shape == (4, 4, 3, 9, 9)
    assert torch.equal(run["hook_low"].tensor[:, -1], run["state.low"].tensor[1:])


def test_an_edit_can_name_one_low_update(model, tokens):
    plain = ls.record(model, tokens, iterations=3, sites=["hook_low"])
    zero = ls.ablate("hook_low", iteration=1, low=1)
    run = ls.record(model, tokens, iterations=3, sites=["hook_low"], edits=[zero])
    assert torch.equal(run["hook_low"][1, 0], plain["hook_low"][1, 0])
    assert (run["hook_low"][1, 1] == 0).all()
    assert (run["hook_low"][1, 2] != plain["hook_low"][1, 2]).any()
    assert torch.equal(run.states[1], plain.states[1]) and (run.states[2] != plain.states[2]).any()


def test_two_networks_and_their_parameters():
    model = ls.models.build("hrm", **SHAPE)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    block = 4 * 24 * 24 + 3 * 24 * 64  # attention, and a gated MLP of 8/3 of the width; norms have no gain
    assert counts["low_level"] == counts["high_level"] == 2 * block
    assert counts["placed"] == (5 + 12) * 24 and counts["unembed"] == 5 * 24 and counts["q_head"] == 2 * 25
    assert sum(counts.values()) == sum(p.numel() for p in model.parameters())


def test_both_states_start_from_one_untrained_vector_each(model, tokens):
    start = model.initial(model.encode(tokens))
    for name, value in start._asdict().items():
        assert torch.equal(value, model.start.get_buffer(name).expand(4, 9, 24))
    assert {"start.high", "start.low"} <= model.state_dict().keys()
    assert not any(name.startswith("start") for name, _ in model.named_parameters())


def test_the_start_is_a_normal_cut_at_two():
    """Its variance is 1 - 4 phi(2) / (2 Phi(2) - 1) = 0.7737."""
    torch.manual_seed(0)
    values = torch.cat([*InitialStates(40_000)(torch.empty(1, 1, 40_000))], dim=-1)
    assert values.abs().max() <= 2
    assert values.mean().item() == pytest.approx(0, abs=0.02)
    assert values.var().item() == pytest.approx(0.7737, rel=0.02)


def test_every_weight_of_a_level_starts_at_its_scale():
    torch.manual_seed(0)
    for name, weight in level_network(2, 96, 4).named_parameters():
        assert weight.std().item() == pytest.approx((0.7737 / weight.shape[1]) ** 0.5, rel=0.05), name


def test_in_training_only_the_last_low_update_keeps_its_gradient(model, tokens):
    context = model.encode(tokens)
    context = type(context)(context.x.detach(), context.positions)

    def gradient(training):
        model.train(training)
        state = type(model.initial(context))(
            *(part.clone().requires_grad_() for part in model.initial(context))
        )
        model.decode(model.step(state, context, 0), context).square().sum().backward()
        return state.high.grad, state.low.grad

    high, low = gradient(training=True)
    assert low is None, "the low state came in before the cut"
    assert (high != 0).any()
    high, low = gradient(training=False)
    assert (high != 0).any() and (low != 0).any()


def test_the_one_step_gradient_is_that_of_two_calls_with_all_else_constant(model, tokens):
    model.train()
    state = model.initial(model.encode(tokens))
    model.decode(model.step(state, model.encode(tokens), 0), model.encode(tokens)).square().sum().backward()
    result = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with torch.no_grad():
        low, x = state.low, model.encode(tokens).x
        for _ in range(2):
            low = transcribed.level(model.state_dict(), "low_level", 2, 3, low + state.high + x)
    weights, context = dict(model.named_parameters()), model.encode(tokens)
    low = transcribed.level(weights, "low_level", 2, 3, low + state.high + context.x)
    high = transcribed.level(weights, "high_level", 2, 3, state.high + low)
    model.unembed(high).square().sum().backward()
    assert result.keys() == {name for name, p in model.named_parameters() if p.grad is not None}
    for name, p in model.named_parameters():
        if p.grad is not None:
            assert torch.allclose(result[name], p.grad, atol=1e-9), name


def test_a_fresh_head_says_that_nothing_is_right_yet(model, tokens):
    run = ls.record(model, tokens, iterations=4)
    assert (model.q_values(run.state(4)) == -5).all()
    assert not run.halting.halted.any() and (run.halting.iteration == 3).all()


def test_halting_is_at_the_first_segment_whose_head_prefers_to_halt(model, tokens):
    torch.manual_seed(1)
    torch.nn.init.normal_(model.q_head.linear.weight)
    torch.nn.init.zeros_(model.q_head.linear.bias)
    run = ls.record(model, tokens, iterations=9)  # four segments of two, and one iteration more
    q = torch.stack([model.q_values(run.state(k)) for k in (2, 4, 6, 8)]).detach()
    with torch.no_grad():  # so that some rows halt, at different segments
        model.q_head.linear.bias[1] = (q[..., 0] - q[..., 1]).amax(0).sort().values[1:3].mean()
    run = ls.record(model, tokens, iterations=9)
    halting = run.halting
    assert halting.halted.any() and not halting.halted.all()
    for row in range(4):
        wants = []
        for k in (2, 4, 6, 8):
            halt, go_on = model.q_head.linear(run.states[k][row].mean(0)).tolist()
            wants.append(halt > go_on)
        expected = 2 * wants.index(True) + 1 if any(wants) else 8
        assert (halting.iteration[row] == expected).all()
        assert (halting.halted[row] == any(wants)).all()
        assert halting.weights[expected, row].eq(1).all() and halting.weights[:, row].sum(0).eq(1).all()


def test_evaluation_runs_all_segments_though_the_head_says_halt(model, tokens):
    torch.nn.init.constant_(model.q_head.linear.bias, 1.0)
    model.q_head.linear.bias.data[1] = -1.0
    run = ls.record(model, tokens, iterations=6)
    assert run.iterations == 6 and (run.halting.iteration == 1).all()


def test_every_cell_sees_every_other(model, tokens):
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 5
    assert (model(tokens, 1) != model(changed, 1)).any(-1).all()


def test_a_board_larger_than_the_learned_positions_is_refused(model):
    with pytest.raises(ls.LoopscopeError, match="at most 12 of them, but got 13"):
        model(torch.zeros(1, 13, dtype=torch.long))
    assert ls.models.build("hrm", **SHAPE | {"position": "rotary"})(
        torch.zeros(1, 13, dtype=torch.long), 1
    ).shape == (1, 13, 5)
