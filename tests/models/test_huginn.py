"""Huginn: its equations, its random start, its gradient of the last iterations."""

import math
from collections import deque

import pytest
import torch
from scipy.stats import kstest, truncnorm

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.nn import Injection
from loopscope.nn.huginn_init import random_state
from loopscope.training import Full, Last, PoissonLogNormal, accuracy, recipes

from ..toys.reference_equations import rms, shaken, stream

KEPT = truncnorm.std(-3, 3)  # what a cut at three standard deviations leaves of one: 0.9866


def built(**config):
    shape = {"vocabulary": 5, "width": 8, "heads": 2, "layers": (1, 2, 1), "iterations": 3}
    return ls.models.build("huginn", **(shape | config))


def tokens(batch=2, length=5, seed=0):
    return torch.randint(0, 5, (batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("tied", [True, False])
def test_the_forward_pass_is_the_docstrings_equations(tied):
    model = shaken(built(tied=tied))
    base = 50_000.0
    torch.manual_seed(4)
    logits = model(tokens())
    torch.manual_seed(4)
    h = model.initial(model.encode(tokens()))

    e = stream(model.prelude[0], math.sqrt(8) * model.embed.table.weight[tokens()], base)
    for _ in range(3):
        h = torch.cat([h, e], -1) @ model.injection.mix.weight.T
        for block in model.core:
            h = stream(block, h, base)
    h = rms(stream(model.coda[0], rms(h, model.ln_final), base), model.ln_final)
    head = model.embed.table.weight if tied else model.unembed.weight
    assert torch.allclose(logits, h @ head.T, atol=1e-12)


def test_the_same_norm_stands_before_and_after_the_coda():
    model, calls = built(), []
    model.ln_final.register_forward_hook(lambda module, x, y: calls.append(module))
    model(tokens())
    assert len(calls) == 2
    assert sum(name.startswith("ln_final") for name, _ in model.named_parameters()) == 1


def test_parameters_are_counted_once_each_whatever_the_iterations():
    d, v, hidden = 8, 5, 32
    block = 4 * d * d + 3 * d * hidden + 4 * d
    tied = v * d + 4 * block + 2 * d * d + d  # embedding, four blocks, adapter, the one last norm
    count = {t: sum(p.numel() for p in built(tied=t).parameters()) for t in (True, False)}
    assert count == {True: tied, False: tied + v * d}
    assert sum(p.numel() for p in built(iterations=50).parameters()) == tied


def test_the_start_is_truncated_normal_of_variance_two_fifths_whatever_the_width():
    for width in (8, 512):
        torch.manual_seed(0)
        start = random_state(torch.empty(16, 4096 // width, width)).double() / math.sqrt(2 / 5)
        assert start.abs().max() <= 3
        assert kstest(start.flatten().numpy(), truncnorm(-3, 3).cdf).pvalue > 1e-3
        assert start.std().item() == pytest.approx(KEPT, rel=0.01)


def test_each_position_and_each_example_starts_elsewhere_and_the_seed_decides_where():
    model = built().eval()
    first, again, other = (ls.record(model, tokens(), iterations=2, seed=s).states for s in (0, 0, 1))
    assert torch.equal(first.tensor, again.tensor) and not torch.equal(first[0], other[0])
    assert len({tuple(vector) for vector in first[0].flatten(0, 1).tolist()}) == 10


def test_other_starts_are_the_input_or_zero_and_an_unknown_one_is_refused():
    context = built().encode(tokens())
    assert torch.equal(built(start="input").initial(context), context.injected)
    assert not built(start="zero").initial(context).any()
    with pytest.raises(LoopscopeError, match="start of huginn must be"):
        built(start="gausian")


def test_weights_start_with_the_papers_deviation_and_what_is_added_to_the_stream_smaller_by_the_depth():
    d, iterations = 128, 10
    model = built(width=d, layers=(2, 4, 2), iterations=iterations, vocabulary=400, tied=False)
    std, depth = math.sqrt(2 / (5 * d)), 2 + 4 * iterations + 2
    seen = 0
    for name, weight in model.named_parameters():
        if weight.ndim < 2:
            assert torch.equal(weight, torch.ones(d)), name  # gains
            continue
        added = name.endswith(("attn.out.weight", "mlp.down.weight"))
        expected = std / math.sqrt(2 * depth) if added else std
        assert weight.std().item() == pytest.approx(KEPT * expected, rel=0.03), name
        assert weight.abs().max() <= 3 * expected
        seen += added
    assert seen == 16 and isinstance(model.injection, Injection) and model.injection.mix.bias is None


def test_the_gradient_stops_exactly_where_the_last_iterations_begin():
    model = built()
    batch = tokens()
    context = model.encode(batch)
    grads = {}
    for rule in (Last(2), Full()):
        start = model.initial(context).requires_grad_()
        states = dict(rule.unrolled(model, start, model.encode(batch), 5))
        model.zero_grad()
        model.decode(states[5], context).square().sum().backward()
        grads[rule] = start.grad, model.core[0].attn.out.weight.grad.clone()
    assert grads[Last(2)][0] is None and grads[Full()][0].abs().sum() > 0
    # and what is left is the gradient of two iterations from where the others had led
    with torch.no_grad():
        cut = deque(Full().unrolled(model, start.detach(), context, 3), maxlen=1).pop()[1]
    state = deque(Full().unrolled(model, cut, model.encode(batch), 5, 3), maxlen=1).pop()[1]
    model.zero_grad()
    model.decode(state, context).square().sum().backward()
    again = dict(Last(2).unrolled(model, start.detach(), model.encode(batch), 5))
    own = model.core[0].attn.out.weight.grad.clone()
    model.zero_grad()
    model.decode(again[5], context).square().sum().backward()
    assert torch.equal(model.core[0].attn.out.weight.grad, own) and not torch.equal(own, grads[Full()][1])


def test_the_recipe_draws_its_depth_and_cuts_its_gradient_as_the_paper_does():
    recipe = recipes()["huginn-hops"]
    assert isinstance(recipe.depth, PoissonLogNormal) and recipe.depth.sigma == 0.5
    assert isinstance(recipe.gradient, Last)


# The trained entry
# -----------------------------------------------------------------------------------------------


def test_the_entry_ends_in_the_same_place_wherever_it_starts():
    model = ls.models.load("huginn-hops")
    batch = model.task.batch(64, seed=0)
    one, other = (ls.record(model, batch.tokens, iterations=24, seed=seed) for seed in (0, 1))
    apart = (one.states.tensor - other.states.tensor).norm(dim=-1) / one.states.tensor.norm(dim=-1)
    assert apart[0].min() > 0.5 and apart[-1].max() < 1e-3
    assert torch.equal(one.logits[-1].argmax(-1), other.logits[-1].argmax(-1))


def test_the_entry_knows_one_and_two_hops_and_further_iterations_buy_no_more():
    """As its card tells it; a loop that did better would make the card wrong."""
    model = ls.models.load("huginn-hops")
    right = {n: accuracy(model, iterations=24, size=300, seed=5, exactly=n).positions for n in (1, 2, 4)}
    assert right[1][24] > 0.97 and right[2][24] > 0.94
    assert right[4][24] < right[4][2] + 0.05 < 0.6
