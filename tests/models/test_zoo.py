"""The laws of the instrument, on every architecture of the zoo and on every shape that a recipe
gives it."""

import pytest
import torch

import loopscope as ls
from loopscope import models
from loopscope.common import discovery
from loopscope.training import Recipe, accuracy, recipes
from loopscope.training.card_metrics import enough

ANYWHERE = {"hrm", "memory", "ponder", "trm"}
"""Architectures whose positions all see each other; the others say that they are causal."""
SEED, N = 3, 3


def shapes() -> dict[str, tuple[str, dict, str, dict]]:
    """Every (architecture, configuration, task, its options), by the first entry of that kind."""
    result = {}
    for name, recipe in recipes().items():
        fields = discovery.module("models", recipe.architecture).Config.__dataclass_fields__
        config = dict(recipe.config) | ({"iterations": N} if "iterations" in fields else {})
        result.setdefault(f"{recipe.architecture} {sorted(config.items())}", (name, recipe, config))
    cases = {
        name: (recipe.architecture, config, recipe.task, dict(recipe.options))
        for name, recipe, config in result.values()
    }
    for architecture in models.names():  # those without a recipe
        if all(case[0] != architecture for case in cases.values()):
            cases[architecture] = (
                architecture,
                {"vocabulary": 3, "iterations": N},
                "prefix-parity",
                {"length": 6},
            )
    return cases


CASES = shapes()


@pytest.fixture(params=CASES)
def case(request):
    architecture, config, task, options = CASES[request.param]
    model = ls.models.build(architecture, seed=SEED, **config).eval()
    return architecture, model, ls.tasks.build(task, **options).batch(3, seed=0).tokens


def recorded(model, tokens, iterations=None, **options):
    return ls.record(model, tokens, iterations, seed=SEED, **options)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def test_every_architecture_is_tried():
    assert {case[0] for case in CASES.values()} == set(models.names())


def test_recording_everything_changes_nothing(case):
    _, model, tokens = case
    torch.manual_seed(SEED)
    bare = model(tokens)
    run = recorded(model, tokens, sites="all")
    assert same(run.logits[-1], bare)
    assert bare.shape == (*tokens.shape[:2], model.vocabulary)
    assert run.iterations <= model.iterations
    assert len(run.states) == run.iterations + 1


def test_driving_the_four_functions_equals_forward(case):
    _, model, tokens = case
    torch.manual_seed(SEED)
    context = model.encode(tokens)
    state = model.initial(context)
    for t in range(model.iterations):
        if model.finished(state):
            break
        state = model.step(state, context, t)
    torch.manual_seed(SEED)
    assert same(model.decode(state, context), model(tokens))


def test_a_run_that_is_resumed_is_the_run(case):
    _, model, tokens = case
    whole, part = recorded(model, tokens, sites="all"), recorded(model, tokens, 1, sites="all")
    later = ls.resume(model, part, iterations=model.iterations)
    assert same(later.states[-1], whole.states[-1])
    assert same(later.logits[-1], whole.logits[-1])


def test_states_are_what_an_iteration_reads(case):
    """A state put back in its own place changes nothing; another's, nothing before it."""
    _, model, tokens = case
    run = recorded(model, tokens)
    k = min(1, run.iterations)
    kept = recorded(model, tokens, edits=[ls.patch("state", iteration=k, value=run.states[k])])
    assert same(kept.logits[-1], run.logits[-1])
    moved = recorded(model, tokens, edits=[ls.patch("state", iteration=k, value=run.states[k] + 1)])
    assert same(moved.states[0], run.states[0]) or k == 0
    assert same(moved.states[k], run.states[k] + 1)


def test_every_field_of_the_state_is_a_site(case):
    _, model, tokens = case
    sites = [f"state.{field}" for field in model.fields[1:]]
    run = recorded(model, tokens, sites=sites)
    assert all(len(run[site].iterations) == run.iterations + 1 for site in sites)
    assert set(model.recurrent_fields) <= set(model.fields)


def test_what_is_called_in_the_loop_has_an_iteration_axis(case):
    _, model, tokens = case
    run = recorded(model, tokens, sites="all")
    inside = [
        site
        for site in model.hook_dict
        if site.split(".")[0] not in ("embed", "placed", "hook_embed", "prelude", "coda")
    ]
    assert any(site.endswith("_in") for site in inside), "what the body receives, after injection, is a site"
    inside = [site for site in inside if site in run]
    assert all(run[site].axes[0] == "iteration" for site in inside)


def test_a_causal_model_looks_back_only(case):
    architecture, model, tokens = case
    other = tokens.clone()
    other[:, -1] = other[:, -2] if other.is_floating_point() else (other[:, -1] + 1) % model.vocabulary
    one, two = recorded(model, tokens, 2), recorded(model, other, 2)
    before = torch.equal(one.states.tensor[:, :, :-1], two.states.tensor[:, :, :-1])
    assert before == (architecture not in ANYWHERE)


def test_a_run_survives_its_file(case, tmp_path):
    _, model, tokens = case
    run = recorded(model, tokens)
    run.save(tmp_path / "run.safetensors")
    again = ls.load_run(tmp_path / "run.safetensors")
    assert same(again.states[-1], run.states[-1])


def test_building_twice_gives_the_same_weights(case):
    architecture, model, _ = case
    _, config, *_ = next(c for c in CASES.values() if c[0] == architecture)
    one, two = (ls.models.build(architecture, seed=5, **config).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


KINDS = {
    "equilibrium": "solver",
    "huginn": "start",
    "recall": "outer_norm",
    "trm": "input",
    "universal": "halting",
}


@pytest.mark.parametrize(("architecture", "field"), KINDS.items())
def test_a_kind_that_is_not_known_is_refused_without_the_shelf_too(architecture, field):
    module = discovery.module("models", architecture)
    with pytest.raises(ls.LoopscopeError, match=f"{field} must be one of its options, but is 'nonesuch'"):
        module.Model(module.Config(**{field: "nonesuch"}))


# Trained entries
# ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.zoo
@pytest.mark.parametrize("entry", models.entries())
def test_a_card_tells_what_is_found_on_fresh_examples(entry):
    """Within one point, on as many as that takes."""
    measured = models.header(entry)["measured"]
    model = ls.models.load(entry)
    result = accuracy(model, size=enough(model.task), seed=77)
    again = float(result.positions[min(model.iterations, result.iterations)])
    assert abs(again - measured["accuracy"]) <= 0.01
    assert f"{measured['accuracy']:.2%}" in models.card(entry)


@pytest.mark.parametrize("entry", models.entries())
def test_an_entry_is_made_by_the_recipe_of_its_name(entry):
    assert Recipe.from_json(models.header(entry)["recipe"]) == recipes()[entry]


def test_the_zoo_is_small():
    sizes = [models.path(entry).stat().st_size for entry in models.entries()]
    assert max(sizes) < 2e6
    assert sum(sizes) < 20e6


@pytest.mark.parametrize(("architecture", "path"), discovery.files("models", ".py").items())
def test_an_architecture_fits_on_a_few_pages(architecture, path):
    assert path.read_text(encoding="utf-8").count("\n") <= 250
