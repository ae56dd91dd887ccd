"""A loop put into a feed-forward model runs its layers as the model itself would, were it built
with them in that order."""

from typing import Any

import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.wrapping.update_rules import UpdateRule

from ..toys.feed_forward import LAYERS, InPlace, Linear, gpt2, llama, qwen, with_layers

STACKS = {"GPT-2": (gpt2, "transformer.h"), "Llama": (llama, "model.layers"), "Qwen": (qwen, "model.layers")}
TOKENS = torch.randint(0, 20, (2, 6), generator=torch.Generator().manual_seed(2))
MASK = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])


@pytest.fixture(params=STACKS, scope="module")
def stack(request):
    build, name = STACKS[request.param]
    return build(), name


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS, attention_mask=MASK, use_cache=False).logits


def record(model, **options) -> ls.Run:
    return ls.record(model, TOKENS, attention_mask=MASK, **options)


def linear(**options) -> Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Linear(**options)


def chain() -> tuple[Linear, torch.Tensor, torch.Tensor]:
    """A chain of linear layers, its input, and the matrix of its layers 1 and 2 together."""
    model = linear()
    x = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(2, 3, 4)
    return model, x, model.layers[2].map.weight.detach() @ model.layers[1].map.weight.detach()


@pytest.mark.parametrize("layers", ["", ".1:3", ".2:3"])
def test_one_plain_pass_is_the_models_own_forward_bit_for_bit(stack, layers):
    model, name = stack
    looped, own = ls.wrap(model, body=name + layers, repeat=1), logits(model)
    run = record(looped, sites="all")
    assert torch.equal(run.output, own)
    assert torch.equal(run.logits[1], own)
    assert torch.equal(logits(looped), own)


@pytest.mark.parametrize("repeat", [2, 3])
def test_a_repeated_window_is_the_model_built_with_its_layers_repeated(stack, repeat):
    model, name = stack
    run = record(ls.wrap(model, body=f"{name}.1:3", repeat=repeat))
    order = [0, *[1, 2] * repeat, *range(3, LAYERS)]
    assert torch.equal(run.output, logits(with_layers(model, name, order)))


@pytest.mark.parametrize("order", [[*range(LAYERS)], [0, 1, 1, 3], [4, 2, 2, 2, 0, 1], [3]])
def test_a_path_is_the_model_built_with_its_layers_in_that_order(stack, order):
    model, name = stack
    looped = ls.wrap(model, body=name, order=order)
    run, own = record(looped), logits(with_layers(model, name, order))
    assert run.iterations == len(order)
    assert torch.equal(run.output, own)
    assert torch.equal(logits(looped), own)
    last = ls.lens(run, "logit").logits(len(order))
    assert torch.allclose(last[MASK.bool()].float(), own[MASK.bool()], atol=1e-6)


def test_the_states_of_the_models_own_order_are_its_hidden_states(stack):
    model, name = stack
    run = record(ls.wrap(model, body=name, order=list(range(LAYERS))))
    with torch.no_grad():
        hidden = model(TOKENS, attention_mask=MASK, output_hidden_states=True).hidden_states
    for k in range(LAYERS):  # the last of them has passed the final norm
        assert torch.equal(run.states[k], hidden[k])


def test_skips_repeats_and_swaps_of_iterations_are_paths(stack):
    model, name = stack
    own = ls.wrap(model, body=name, order=list(range(LAYERS)))
    edits = {(0, 1, 3, 4): ls.skip(2), (0, 1, 2, 2, 3, 4): ls.repeat(2), (0, 3, 2, 1, 4): ls.swap(1, 3)}
    for order, edit in edits.items():
        path = record(ls.wrap(model, body=name, order=list(order)))
        assert torch.equal(record(own, edits=[edit]).output, path.output)


@pytest.mark.parametrize("update", ["plain", "damped", "anchored"])
def test_what_is_recorded_is_what_the_looped_model_computes(stack, update):
    model, name = stack
    own_forwards = [vars(part).get("forward") for part in model.modules()]
    looped = ls.wrap(model, body=[f"{name}.1", f"{name}.2"], repeat=3, update=update)
    run = record(looped)
    assert torch.equal(run.output, logits(looped))
    assert looped.difference(TOKENS, attention_mask=MASK) == 0
    assert [vars(part).get("forward") for part in model.modules()] == own_forwards


def test_more_iterations_than_repeats_go_on_with_the_same_map(stack):
    model, name = stack
    further = record(ls.wrap(model, body=f"{name}.1:3", repeat=2), iterations=4)
    assert torch.equal(further.output, record(ls.wrap(model, body=f"{name}.1:3", repeat=4)).output)


def test_a_site_and_an_edit_in_the_window_belong_to_an_iteration(stack):
    model, name = stack
    looped, site = ls.wrap(model, body=f"{name}.1:3", repeat=3), f"{name}.2.mlp"
    run = record(looped, sites=[site, f"{name}.0.mlp"])
    edited = record(looped, edits=[ls.add(site, iteration=1, value=1.0)])
    assert run[site].iterations == [0, 1, 2]
    assert isinstance(run[f"{name}.0.mlp"], torch.Tensor)
    same = [torch.equal(edited.states[k], run.states[k]) for k in range(4)]
    assert same == [True, True, False, False]


def test_dropout_draws_what_the_models_own_forward_draws():
    model = gpt2(dropout=0.2).train()
    looped = ls.wrap(model, body="transformer.h.1:3", repeat=1)
    torch.manual_seed(4)
    own = model(TOKENS).logits
    assert torch.equal(ls.record(looped, TOKENS, seed=4, grad=True).output, own)


@pytest.mark.parametrize("update", ["plain", "damped", "anchored"])
def test_a_linear_window_has_the_state_of_its_closed_form(update):
    model, x, matrix = chain()
    one = torch.eye(4, dtype=torch.float64)
    power = matrix if update == "plain" else one + (matrix - one) / 3
    run = ls.record(ls.wrap(model, body="layers.1:3", repeat=3, update=update), x)
    start = model.layers[0].map(x).detach()
    state = start @ torch.linalg.matrix_power(power, 3).T
    assert torch.allclose(run.states[3], state, atol=1e-12)
    read = 0.5 * (start @ matrix.T) + 0.5 * state if update == "anchored" else state
    assert torch.allclose(run.output, model.head(model.layers[3].map(read)), atol=1e-12)


def test_a_rule_of_ones_own_is_used_as_it_is():
    model, x, matrix = chain()
    rule = UpdateRule(lambda x, image, repeat: x + 0.25 * (image - x), lambda x, once: x - once)
    run = ls.record(ls.wrap(model, body="layers.1:3", repeat=2, update=rule), x)
    start = model.layers[0].map(x).detach()
    state = 0.75 * start + 0.25 * start @ matrix.T
    state = 0.75 * state + 0.25 * state @ matrix.T
    assert torch.allclose(run.states[2], state, atol=1e-12)
    assert torch.allclose(run.output, model.head(model.layers[3].map(state - start @ matrix.T)), atol=1e-12)


def test_layers_that_write_into_their_input_change_no_state():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = InPlace()
    x = torch.linspace(-1, 1, 24).reshape(2, 3, 4)
    run = ls.record(ls.wrap(model, body="layers.1:3", repeat=1), x)
    assert torch.equal(run.output, model(x))
    assert torch.equal(run.states[0], model.layers[0](x.clone()))
    damped = ls.record(ls.wrap(model, body="layers.1:3", repeat=2, update="damped"), x)
    image = model.layers[2](model.layers[1](run.states[0].clone()))
    assert torch.equal(damped.states[1], run.states[0] + (image - run.states[0]) / 2)
    path = ls.record(ls.wrap(model, body="layers", order=[0, 1, 2, 3]), x)
    assert torch.equal(path.states[0], x)
    assert torch.equal(path.output, model(x))


REFUSED = {
    "a layer is called twice": (
        {"twice": True},
        {"body": "layers.1:3", "repeat": 2},
        "called once in a pass, in the order of their names, but 'layers.1' was called again",
    ),
    "the order is another": (
        {},
        {"body": ["layers.2", "layers.1"], "repeat": 2},
        "'layers.1' was called before 'layers.2'",
    ),
    "something comes between": (
        {"between": True},
        {"body": "layers.1:3", "repeat": 2},
        "between 'layers.1' and 'layers.2' the model does something else",
    ),
    "two tensors are carried": (
        {"pair": True},
        {"body": "layers.1:3", "repeat": 2},
        "'layers.2' receives another one of its shape from 'layers.1'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_synthetic_loop_cannot_follow_is_refused(case):
    options, arguments, text = REFUSED[case]
    looped = ls.wrap(linear(**options), **arguments)
    with pytest.raises(LoopscopeError, match=text):
        ls.record(looped, torch.ones(2, 3, 4, dtype=torch.float64))


def test_a_cache_is_refused():
    from transformers import DynamicCache

    model = gpt2()
    looped = ls.wrap(model, body="transformer.h.1:3", repeat=2)
    with pytest.raises(LoopscopeError, match="must not have a cache, but past_key_values was passed"):
        ls.record(looped, TOKENS, past_key_values=DynamicCache())
    with pytest.raises(LoopscopeError, match="must not have a cache, but past_key_values was passed"):
        looped(TOKENS, past_key_values=DynamicCache())
    with pytest.raises(LoopscopeError, match=r"each iteration makes its own, but use_cache=True was passed"):
        ls.generate(looped, TOKENS, max_new_tokens=2, use_cache=True)
    with pytest.raises(LoopscopeError, match="its own, but past_key_values was passed"):
        ls.generate(looped, TOKENS, max_new_tokens=2, past_key_values=DynamicCache())
    with (
        pytest.raises(LoopscopeError, match=r"but the pass has one\. Pass use_cache=False"),
        ls.recording(looped),
    ):
        model.generate(TOKENS, max_new_tokens=2)


@pytest.fixture(scope="module")
def generated() -> tuple[Any, Any, Any]:
    model = llama()
    looped = ls.wrap(model, body="model.layers.1:3", repeat=3, update="damped")
    return model, looped, ls.generate(looped, TOKENS, max_new_tokens=3, do_sample=False, sites="state")


def test_generation_runs_the_loop_in_every_pass(generated):
    """By hand: the most likely token after all tokens so far, of the model with its loop."""
    _, looped, out = generated
    tokens = TOKENS
    for token in range(3):
        run = ls.record(looped, tokens)
        # generate brings a mask, and lets the head read the last position alone: both round
        torch.testing.assert_close(out.at(token=token).states.tensor, run.states.tensor, rtol=0, atol=1e-7)
        torch.testing.assert_close(out.at(token=token).output[:, -1], run.output[:, -1])
        with torch.no_grad():
            newest = looped(tokens).logits[:, -1].argmax(-1)
        tokens = torch.cat([tokens, newest[:, None]], 1)
    assert torch.equal(out.tokens, tokens)
    assert len(out) == 3 and out.states.axes[:2] == ("token", "iteration")


def strong(model: Any, layers: Any) -> Any:
    """The model with larger weights in its layers, whose answers depend on how often they run."""
    with torch.no_grad():
        for weight in layers.parameters():
            weight.mul_(20)
    return model


def test_a_repeated_window_generates_as_the_model_built_with_its_layers_repeated():
    model = gpt2()
    model = strong(model, model.get_submodule("transformer.h"))
    order, options = [0, 1, 2, 1, 2, 3, 4], {"max_new_tokens": 4, "do_sample": False}
    expected = with_layers(model, "transformer.h", order).generate(TOKENS, use_cache=False, **options)
    assert not torch.equal(model.generate(TOKENS, **options), expected), "the loop matters"
    for arguments in ({"body": "transformer.h.1:3", "repeat": 2}, {"body": "transformer.h", "order": order}):
        assert torch.equal(ls.generate(ls.wrap(model, **arguments), TOKENS, **options).tokens, expected)


def test_an_edit_at_a_token_changes_that_pass_of_a_synthetic_loop(generated):
    _, looped, plain = generated
    direction = 40 * torch.tensor([1.0, -1.0] * 4)
    push = ls.add("state", value=direction, iteration=2, token=1)
    out = ls.generate(looped, TOKENS, max_new_tokens=3, do_sample=False, edits=[push])
    assert all(torch.equal(out.states[0, k], plain.states[0, k]) for k in range(4))
    assert all(torch.equal(out.states[1, k], plain.states[1, k]) for k in range(2))
    assert not torch.equal(out.states[1, 2], plain.states[1, 2])
    again = ls.record(
        looped, out.tokens[:, :7], edits=[ls.add("state", value=direction, iteration=2, position=-1)]
    )
    torch.testing.assert_close(out.at(token=1).output[:, -1], again.output[:, -1])


WRONG = {
    "an empty range": (
        {"body": "layers.3:3", "repeat": 2},
        "must have at least one, but 'layers.3:3' has none of",
    ),
    "no list": ({"body": "layer.1:3", "repeat": 2}, "there is no 'layer'. Did you mean 'layers'"),
    "no such layer": (
        {"body": "layers", "order": [0, 4]},
        "indices of the 4 layers of body, 0 to 3, but has 4",
    ),
    "no order": ({"body": "layers", "order": []}, "order must name at least one layer"),
    "both": ({"body": "layers", "order": [0], "repeat": 2}, "either repeat, .* or order"),
    "neither": ({"body": "layers", "update": "damped"}, "either repeat, .* or order"),
    "an update of a path": (
        {"body": "layers", "order": [0], "update": "plain"},
        "update belongs to a repeated",
    ),
    "no body": (
        {"repeat": 2},
        "needs the names of the layers and nothing else of a loop body, but body is None",
    ),
    "an inner loop": ({"body": "layers", "repeat": 2, "state": "x"}, "but state was passed too"),
    "no rule": ({"body": "layers", "repeat": 2, "update": "dampd"}, "Did you mean 'damped'"),
    "no repeats": ({"body": "layers", "repeat": 0}, "repeat must be"),
}


@pytest.mark.parametrize("case", WRONG)
def test_arguments_without_a_meaning_are_refused(case):
    arguments, text = WRONG[case]
    with pytest.raises(LoopscopeError, match=text):
        ls.wrap(linear(), **arguments)
