"""A Universal Transformer with memory tokens, against its equations and Graves' definition
enumerated by hand."""

import pytest
import torch

import loopscope as ls

from ..toys import reference_board_blocks as transcribed

SHAPE = {"vocabulary": 5, "width": 24, "heads": 3, "memory": 3, "iterations": 6, "length": 12}


def built(**options):
    return ls.models.build("memory", **SHAPE | options).double().eval()


@pytest.fixture
def tokens():
    return torch.randint(0, 5, (4, 9), generator=torch.Generator().manual_seed(0))


def block(weights, x):
    """Pre-norm: x + attention(N(x)), then x + swiglu(N(x))."""
    y = transcribed.rms(x) * weights["core.0.norm_1.weight"]
    x = x + transcribed.attention(y, weights["core.0.attn.qkv.weight"], weights["core.0.attn.out.weight"], 3)
    y = transcribed.rms(x) * weights["core.0.norm_3.weight"]
    return x + transcribed.swiglu(
        y, *(weights[f"core.0.mlp.{part}.weight"] for part in ("gate", "up", "down"))
    )


def papers_loop(weights, tokens, iterations, epsilon=0.05):
    """Output and ponder cost of the tokens (memory first), each halting for itself, written row by
    row."""
    x = (weights["placed.embed.table.weight"][tokens] + weights["placed.place"][: tokens.shape[1]]) / 2**0.5
    memory = weights["memory"].expand(len(tokens), -1, -1) + weights["kind"][0]
    h = torch.cat([memory, x + weights["kind"][1]], dim=1)
    batch, length, _ = h.shape
    output, spent = torch.zeros_like(h), torch.zeros(batch, length, dtype=h.dtype)
    used, remainder = torch.zeros(batch, length), torch.zeros(batch, length, dtype=h.dtype)
    halted = torch.zeros(batch, length, dtype=torch.bool)
    for t in range(iterations):
        new = block(weights, h + weights["step_code.weight"][t % 6])
        for row in range(batch):
            for place in range(length):
                if halted[row, place]:
                    continue  # frozen
                h[row, place] = new[row, place]
                p = torch.sigmoid(
                    new[row, place] @ weights["act.gate.weight"][0] + weights["act.gate.bias"][0]
                )
                stops = t == iterations - 1 or spent[row, place] + p > 1 - epsilon
                remainder[row, place] = 1 - spent[row, place]
                output[row, place] += (remainder[row, place] if stops else p) * new[row, place]
                spent[row, place] += p
                used[row, place] += 1
                halted[row, place] = stops
    return output[:, memory.shape[1] :], (used + remainder).mean()


@pytest.mark.parametrize("memory", [0, 3])
@pytest.mark.parametrize("bias", [-3.0, -0.5])
def test_it_computes_the_papers_loop(memory, bias, tokens):
    model = built(memory=memory, halting_bias=bias)
    torch.manual_seed(1)
    torch.nn.init.normal_(model.act.gate.weight, std=0.3)  # so that tokens halt at different iterations
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    with torch.no_grad():
        output, ponder = papers_loop(weights, tokens, 6)
        expected = transcribed.rms(output) * weights["ln_final.weight"] @ weights["unembed.weight"].T
        context = model.encode(tokens)
        run = ls.record(model.train(), tokens, iterations=6)  # in training the loop is not left early
    assert torch.allclose(run.output, expected, atol=1e-6)
    assert model.penalty(run.state(6), context).item() == pytest.approx(ponder.item(), abs=1e-6)
    if bias == -0.5:
        assert len(run.halting.iteration.unique()) > 1


def test_halting_is_the_tokens_own_and_its_weights_sum_to_one(tokens):
    model = built(halting_bias=-0.5)
    torch.nn.init.normal_(model.act.gate.weight, std=0.3)
    halting = ls.record(model, tokens, iterations=6).halting
    assert halting.weights.shape[1:] == tokens.shape
    assert torch.allclose(halting.weights.sum(0), torch.ones(4, 9), atol=1e-6)


def test_what_has_halted_is_frozen_and_what_runs_moves(tokens):
    model = built(halting_bias=-0.5).train()
    torch.manual_seed(3)
    torch.nn.init.normal_(model.act.gate.weight, std=0.5)
    run = ls.record(model, tokens, iterations=6)
    for site, mass in (("state", "state.mass"), ("state.memory", "state.memory_mass")):
        halted = run[mass].tensor[:-1] >= 1
        still = (run[site].differences().tensor == 0).all(-1)
        assert halted.any() and not halted.all() and torch.equal(still, halted)


def test_the_probability_is_read_after_the_block(tokens):
    """In Graves' order, before it, a first p would depend on the token alone, wherever it stands
    and whatever is around it."""
    model = built()
    run = ls.record(model, tokens, iterations=1)
    with torch.no_grad():
        p = model.act.probability(run.states[1])
    assert torch.allclose(run["state.mass"][1], p.double(), atol=1e-7)


@pytest.mark.parametrize("bias, used, remainder", [(0.0, 2, 0.5), (-3.0, 18, 1 - 17 * 0.0474259)])
def test_the_first_halting_is_the_arithmetic_of_the_bias(bias, used, remainder, tokens):
    """p = 1/2 halts in the second iteration; sigmoid(-3) = 0.047 never reaches 0.95 in 18 (arXiv
    2604.21999)."""
    model = built(halting_bias=bias, iterations=18)
    torch.nn.init.zeros_(model.act.gate.weight)
    run = ls.record(model, tokens)
    assert run.iterations == used
    assert (run["state.count"][-1] == used).all() and (run["state.memory_count"][-1] == used).all()
    assert run["state.remainder"][-1].mean().item() == pytest.approx(remainder, abs=1e-5)
    cost = model.penalty(run.state(used), model.encode(tokens))
    assert cost.item() == pytest.approx(used + remainder, abs=1e-5)


def test_the_memory_is_read_by_the_tokens_and_written_by_them(tokens):
    model = built()
    plain = ls.record(model, tokens, iterations=3)
    swapped = ls.patch("state.memory", iteration=1, value=plain["state.memory"][1].flip(0))
    run = ls.record(model, tokens, iterations=3, edits=[swapped])
    assert (run.states[2] != plain.states[2]).any(-1).all()
    other = ls.record(model, (tokens + 1) % 5, iterations=3)
    assert torch.equal(other["state.memory"][0], plain["state.memory"][0])
    assert (other["state.memory"][1] != plain["state.memory"][1]).any(-1).all()


def test_memory_costs_only_its_tokens():
    small, large = (
        sum(p.numel() for p in ls.models.build("memory", **SHAPE | {"memory": m}).parameters())
        for m in (0, 8)
    )
    assert large - small == 8 * 24


def test_memory_and_codes_start_small_and_the_halting_unit_deep():
    model = ls.models.build("memory", width=96, memory=64)
    for weights in (model.memory, model.step_code.weight):
        assert weights.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.act.gate.bias.item() == -3


def test_codes_of_iterations_start_again(tokens):
    model = built(iterations=2)
    run = ls.record(model, tokens, iterations=5, sites=["core_in"])
    context = model.encode(tokens)
    with torch.no_grad():
        again = model.step(run.state(2), context, 0)
        other = model.step(run.state(2), context, 1)
    assert torch.equal(again.h, run.states[3]) and (other.h != run.states[3]).any()
