"""Training: recipes as values, steps whose gradient is known, runs that end alike however often
they were killed."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import loopscope as ls
from loopscope.common import files
from loopscope.common.errors import LoopscopeError
from loopscope.nn import LoopedModule
from loopscope.training import (
    AdamW,
    Fixed,
    Last,
    Ramp,
    Recipe,
    Uniform,
    accuracy,
    checkpoint,
    differences,
    recipe_of,
    recipes,
    step_log,
    train,
)
from loopscope.training.objective import Objective

from ..toys.full_disk import largest_file

RECIPE = Recipe(
    architecture="universal",
    task="prefix-parity",
    steps=12,
    depth=Uniform(2, 5),
    config={"vocabulary": 3, "width": 16, "heads": 2, "iterations": 4, "norm": "stream", "injection": "add"},
    options={"length": 6},
    batch=8,
    optimiser=AdamW(lr=0.01, warmup=4, decay=4),
)
PONDERING = replace(
    RECIPE,
    config={**RECIPE.config, "halting": "accumulated", "halting_bias": -3.0},
    penalty=Ramp(weight=0.5, start=4, steps=4),
)


def trained(folder, recipe=RECIPE, **options):
    return train(recipe, folder, **({"progress": False, "log_every": 1, "checkpoint_every": 4} | options))


def weights(folder):
    return files.load_file(folder / checkpoint.FILE, checkpoint.KIND)[0]


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# Runs
# ----


@pytest.mark.slow
def test_a_run_killed_at_any_moment_and_resumed_gives_the_same_weights_bit_for_bit(tmp_path):
    """Six SIGKILLs, three of them inside the writing of a checkpoint; tests/toys/killed_training.py
    tells the moments."""
    one_core = os.environ | {"OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.toys.killed_training", str(tmp_path)],
        cwd=root,
        env=one_core,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert same(weights(killed), weights(whole))  # weights and Adam's moments
    assert (killed / "log.jsonl").read_text() == (whole / "log.jsonl").read_text()
    assert not list(killed.glob(".*")), "what the killed writes left was not cleared away"
    with pytest.raises(LoopscopeError, match="precision is 'bf16' there and 'no' here"):
        trained(tmp_path / "bf16", RECIPE)


def test_stopping_and_going_on_is_as_one_run(tmp_path):
    trained(tmp_path / "parts", PONDERING, steps=5)
    assert step_log.read(tmp_path / "parts" / "log.jsonl")[-1]["step"] == 5
    trained(tmp_path / "parts", PONDERING)
    trained(tmp_path / "whole", PONDERING)
    assert same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))


def test_a_recipe_and_its_seed_decide_about_everything(tmp_path):
    torch.manual_seed(1)
    trained(tmp_path / "a")
    torch.manual_seed(2)
    trained(tmp_path / "b")
    trained(tmp_path / "c", replace(RECIPE, seed=1))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_training_leaves_the_callers_random_numbers_alone(tmp_path):
    before = torch.get_rng_state()
    trained(tmp_path, steps=2)
    assert torch.equal(before, torch.get_rng_state())


class Noisy(LoopedModule):
    """Starts from noise that it draws itself, without a seed of its own."""

    def __init__(self) -> None:
        super().__init__(iterations=1, vocabulary=3)
        self.read = torch.nn.Linear(1, 3)
        self.setup()

    def encode(self, tokens):
        return tokens

    def initial(self, context):
        return torch.randn(*context.shape, 1)

    def step(self, state, context, t):
        return state.tanh()

    def decode(self, state, context):
        return self.read(state)


def test_what_a_model_draws_for_itself_follows_from_the_step():
    objective = Objective(Noisy(), ls.tasks.prefix_parity(length=6), RECIPE)
    losses = []
    for step in (7, 8, 7):
        torch.rand(3)  # somebody else's draw
        losses.append(objective(step, slice(None))[0].item())
    assert losses[0] == losses[2] != losses[1]


def test_the_log_tells_every_step(tmp_path):
    trained(tmp_path, PONDERING)
    lines = step_log.read(tmp_path / "log.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert {line["length"] for line in lines} == {6}
    assert all(2 <= line["iterations"] <= 5 and 0 <= line["accuracy"] <= 1 for line in lines)
    assert [line["lr"] for line in lines] == [PONDERING.optimiser.rate(step, 12) for step in range(12)]
    assert all(line["penalty"] > 1 and line["gradient_norm"] > 0 for line in lines)  # N + R is at least 1


def test_a_resumed_run_cuts_the_log_back_to_its_checkpoint(tmp_path):
    trained(tmp_path, steps=4)
    whole = (tmp_path / "log.jsonl").read_text()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(
            json.dumps({"step": 5, "loss": 0.0}) + "\n" + '{"step": 6, "lo'
        )  # killed in the middle of a line
    trained(tmp_path, steps=4)
    assert (tmp_path / "log.jsonl").read_text() == whole


def test_beginning_again_forgets_the_checkpoint(tmp_path):
    trained(tmp_path, replace(RECIPE, seed=5), steps=4)
    trained(tmp_path, resume=False)
    trained(tmp_path / "new")
    assert same(weights(tmp_path), weights(tmp_path / "new"))


def test_what_a_run_leaves_can_be_loaded_and_answers_as_the_trained_model(tmp_path):
    model = trained(tmp_path)
    loaded = ls.models.load(tmp_path / "universal.safetensors")
    tokens = loaded.task.batch(16, seed=0).tokens
    assert torch.equal(loaded(tokens), model(tokens))
    header = ls.models.header(tmp_path / "universal.safetensors")
    assert Recipe.from_json(header["recipe"]) == RECIPE
    assert header["step"] == 12
    assert header["measured"]["accuracy"] == pytest.approx(
        accuracy(model, size=1000, seed=header["measured"]["seed"]).positions[-1].item(), abs=1e-6
    )


# What can go wrong
# ----


def test_a_checkpoint_of_another_recipe_is_named_field_by_field(tmp_path):
    trained(tmp_path, steps=4)
    before = (tmp_path / checkpoint.FILE).read_bytes()
    other = replace(RECIPE, batch=9, optimiser=replace(RECIPE.optimiser, lr=0.02), gradient=Last(2))
    with pytest.raises(LoopscopeError) as error:
        trained(tmp_path, other)
    for phrase in (
        "batch is 8 there and 9 here",
        "optimiser.lr is 0.01 there and 0.02 here",
        "gradient.part is 'Full' there and 'Last' here",
        "gradient.iterations is absent there and 2 here",
        "Choose another folder, or start again here with resume=False",
    ):
        assert phrase in str(error.value)
    assert (tmp_path / checkpoint.FILE).read_bytes() == before


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    trained(tmp_path, steps=4)
    before = (tmp_path / checkpoint.FILE).read_bytes()
    with (
        largest_file(8_000),
        pytest.raises(LoopscopeError, match="checkpoint of step 8 could not be written") as error,
    ):
        trained(tmp_path)
    assert "The one before it is complete. Free some space" in str(error.value)
    assert (tmp_path / checkpoint.FILE).read_bytes() == before
    trained(tmp_path)
    trained(tmp_path / "whole")
    assert same(weights(tmp_path), weights(tmp_path / "whole"))


def test_a_folder_that_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LoopscopeError, match="must be a folder that can be written, .* Choose another"):
        trained(tmp_path / "file" / "below")


def test_a_damaged_checkpoint(tmp_path):
    trained(tmp_path, steps=4)
    whole = (tmp_path / checkpoint.FILE).read_bytes()
    (tmp_path / checkpoint.FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LoopscopeError, match="must be a whole safetensors file"):
        trained(tmp_path)


def test_a_loss_that_is_no_number_stops_the_run_and_spares_the_checkpoint(tmp_path):
    trained(tmp_path, steps=4)
    tensors, header = files.load_file(tmp_path / checkpoint.FILE, checkpoint.KIND)
    tensors["weights.unembed.weight"][0, 0] = float("nan")
    files.save_file(tmp_path / checkpoint.FILE, tensors, header)
    before = (tmp_path / checkpoint.FILE).read_bytes()
    with pytest.raises(
        LoopscopeError, match="loss must stay a finite number, but became nan in step 5"
    ) as error:
        trained(tmp_path)
    assert f"The last checkpoint is kept in {tmp_path}" in str(error.value)
    assert (tmp_path / checkpoint.FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"config": {}},
            'vocabulary must be the task\'s, 3 for prefix-parity, but is 2. Put "vocabulary": 3',
        ),
        ({"task": "prefix-partiy"}, "Did you mean 'prefix-parity'"),
        ({"architecture": "universl"}, "Did you mean 'universal'"),
    ],
)
def test_recipes_that_do_not_fit(tmp_path, change, sentence):
    with pytest.raises(LoopscopeError, match=sentence):
        trained(tmp_path, replace(RECIPE, **change))


def test_a_second_precision_in_one_process(tmp_path):
    trained(tmp_path, steps=1)
    with pytest.raises(LoopscopeError, match="precision='bf16' can't be had .* Train in a new process"):
        trained(tmp_path, precision="bf16")


def test_more_steps_than_the_recipe_has(tmp_path):
    with pytest.raises(LoopscopeError, match="steps must be at most the recipe's, 12, but are 13"):
        trained(tmp_path, steps=13)


def test_an_entry_without_a_recipe():
    with pytest.raises(
        LoopscopeError, match="no recipe called 'universal-prefix-party'. Did you mean 'universal-prefix-pa"
    ):
        recipe_of("universal-prefix-party")


# Parts
# ----


@pytest.mark.parametrize("recipe", [RECIPE, PONDERING, replace(RECIPE, depth=Fixed(3)), *recipes().values()])
def test_recipes_survive_json(recipe):
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert differences(recipe.to_json(), json.loads(json.dumps(recipe.to_json()))) == []


def test_recipes_say_what_they_do_not_know():
    with pytest.raises(LoopscopeError, match="no field 'step'. Did you mean 'steps'"):
        Recipe.from_json(RECIPE.to_json() | {"step": 3})
    with pytest.raises(LoopscopeError, match="no recipe part called 'Unifrom'. Did you mean 'Uniform'"):
        Recipe.from_json(RECIPE.to_json() | {"depth": {"part": "Unifrom", "low": 1, "high": 2}})
    with pytest.raises(LoopscopeError, match="part Uniform has no field 'hi'"):
        Recipe.from_json(RECIPE.to_json() | {"depth": {"part": "Uniform", "low": 1, "hi": 2}})
    with pytest.raises(
        LoopscopeError,
        match="Recipe.depth must be Fixed or PerLength or PoissonLogNormal or Rising or Uniform, but is 7",
    ):
        replace(RECIPE, depth=7)
    with pytest.raises(LoopscopeError, match="Uniform.high must be a whole number, 5 or more, but is 4"):
        Uniform(5, 4)


# Measuring
# ----


class Front(LoopedModule):
    """Knows the answers, and tells one more of them after every iteration, from the left; the
    others it gets wrong."""

    def __init__(self, task) -> None:
        super().__init__(iterations=4, vocabulary=3)
        self.task, self.unused = task, torch.nn.Parameter(torch.zeros(1))
        self.setup()

    def encode(self, tokens):
        return self.task.solve(tokens)

    def initial(self, context):
        return torch.ones(*context.shape, 1)

    def step(self, state, context, t):
        return state + 1

    def decode(self, state, context):
        known = torch.arange(context.shape[1]) < state[..., 0]
        return torch.nn.functional.one_hot(torch.where(known, context, 1 - context.clamp(max=1)), 3).float()


def test_accuracy_of_a_front_is_known():
    model = Front(ls.tasks.prefix_parity(length=8))
    result = accuracy(model, iterations=10, size=32)
    assert result.positions.tolist() == pytest.approx([min(k, 8) / 8 for k in range(11)])
    assert result.sequences.tolist() == [float(k >= 8) for k in range(11)]
    assert result.change.tolist() == pytest.approx([0.0] + [1 / 8] * 8 + [0.0] * 2)
    assert result.relative_step.tolist()[1:] == pytest.approx([1 / (k + 1) for k in range(1, 11)])
    assert result.by_position[:, 0].isnan().all()
    assert result.by_position[3, 1:].tolist() == [1.0] * 3 + [0.0] * 5
    assert accuracy(model, size=8, length=16).positions[-1] == 0.25


def test_accuracy_leaves_the_model_as_it_was():
    model = ls.models.build("universal", **RECIPE.config).train()
    accuracy(model, ls.tasks.prefix_parity(length=6), size=8)
    assert model.training
    with pytest.raises(LoopscopeError, match="A model without a task of its own needs one"):
        accuracy(model)
