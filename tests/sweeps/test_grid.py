"""Grids: every combination once, from TOML, and what is wrong with one before anything is
trained."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from loopscope.cli import app
from loopscope.common.errors import LoopscopeError
from loopscope.sweeps import grid_from_table, read_grid
from loopscope.training import recipe_of

from .tiny_grid import RECIPE, TINY, tiny


@settings(max_examples=20)
@given(
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
    decays=st.lists(st.sampled_from([0.0, 0.1, 1.0, 5.0]), min_size=1, max_size=3, unique=True),
    depths=st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
)
def test_a_grid_holds_every_combination_once_and_each_is_the_recipe_with_its_values(seeds, decays, depths):
    both = "config.iterations, depth.iterations"
    grid = tiny(**{"seed": seeds, "optimiser.weight_decay": decays, both: depths})
    made = [
        (r.seed, r.optimiser.weight_decay, r.config["iterations"], r.depth.iterations)
        for r in (trial.recipe for trial in grid.trials)
    ]
    assert made == [(s, d, n, n) for s, d, n in itertools.product(seeds, decays, depths)]
    assert len({trial.name for trial in grid.trials}) == len(made)  # a folder each
    for trial in grid.trials:
        values = grid.values(trial)
        assert (values["seed"], values["optimiser.weight_decay"], values[both]) in itertools.product(
            seeds, decays, depths
        )
        assert trial.recipe.batch == 8  # what isn't varied stays


def test_a_trials_folder_follows_from_its_recipe_alone():
    """So that a grid that has grown finds what was trained before."""
    few, more = tiny(seed=[1]), tiny(seed=[0, 1, 2])
    assert few.trials[0].name == more.trials[1].name
    other = grid_from_table({"recipe": RECIPE | {"batch": 9}, "grid": {"seed": [1]}}, "tiny")
    assert other.trials[0].name != few.trials[0].name


def test_a_grid_is_read_from_toml_however_its_dots_are_written(tmp_path):
    (tmp_path / "bare.toml").write_text(TINY)
    (tmp_path / "quoted.toml").write_text(TINY.replace("optimiser.weight_decay", '"optimiser.weight_decay"'))
    bare, quoted = read_grid(tmp_path / "bare.toml"), read_grid(tmp_path / "quoted.toml")
    assert [t.name for t in bare.trials] == [t.name for t in quoted.trials]
    assert (len(bare.trials), bare.name, bare.checkpoint_every) == (12, "bare", 5)


def test_an_entrys_recipe_is_varied_and_what_is_fixed_holds_for_all():
    entry = "universal-prefix-parity"
    grid = grid_from_table(
        {"entry": entry, "fixed": {"steps": 7, "optimiser": {"lr": 0.5}}, "grid": {"seed": [3, 4]}}, "x"
    )
    lr = replace(recipe_of(entry).optimiser, lr=0.5)
    assert [t.recipe for t in grid.trials] == [
        replace(recipe_of(entry), steps=7, optimiser=lr, seed=seed) for seed in (3, 4)
    ]


def test_a_whole_part_of_a_recipe_can_be_varied():
    parts = [{"part": "Fixed", "iterations": 3}, {"part": "Uniform", "low": 1, "high": 3}]
    grid = tiny(depth=parts)
    assert [type(t.recipe.depth).__name__ for t in grid.trials] == ["Fixed", "Uniform"]
    assert "Uniform(low=1, high=3)" in grid.describe(grid.trials[1])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"grid": {"sead": [1]}}, "The recipe has no field 'sead' .* Did you mean 'seed'"),
        (
            {"grid": {"optimiser.weight_decy": [1]}},
            "optimiser, AdamW, has no field 'weight_decy'. Did you mean 'weight_decay'",
        ),
        (
            {"grid": {"config.iteratons": [1]}},
            "no field of universal's Config called 'iteratons'. Did you mean 'iterations'",
        ),
        (
            {"grid": {"config.width": ["wide"]}},
            "width of universal must be a whole number, 1 or more, but is 'wide'",
        ),
        ({"grid": {"seed": ["one"]}}, "training seed one can't be: Recipe.seed must be a whole number"),
        (
            {"grid": {"curriculum.start": [1]}},
            "curriculum must have parts for 'start' to be set, but is None. Set all of it",
        ),
        ({"grid": {}}, r"must vary something, but its table \[grid\] is empty"),
        (
            {"grid": {"seed": 3}},
            r"seed in \[grid\] must be a list .* but is 3. What all trainings share stands in \[fixed\]",
        ),
        ({"grid": {"seed": []}}, "must be a list of one value or more"),
        ({"grid": {"seed": [1, 2, 1]}}, "must name each value once, but has 1 twice"),
        ({"grid": {"seed": [1]}, "fixed": {"seed": 2}}, "must be set in one place, but seed meets seed"),
        ({"grid": {"seed": [1], "seed, batch": [2]}}, "must be set in one place, but seed meets seed"),
        ({"gird": {}}, "A grid has no key 'gird'. Did you mean 'grid'"),
        ({"entry": "universal-prefix-parity"}, "must have either entry = .* but has both"),
        ({"log_every": 0}, "log_every must be a whole number of steps, 1 or more, but is 0"),
    ],
)
def test_what_is_wrong_with_a_grid_is_said_before_anything_is_trained(change, sentence):
    with pytest.raises(LoopscopeError, match=sentence):
        grid_from_table({"recipe": RECIPE, "grid": {"seed": [0]}} | change, "x")


def test_a_recipe_with_a_field_missing_says_which():
    with pytest.raises(
        LoopscopeError, match=r"training \[recipe\] can't be: A recipe must have the field 'depth'"
    ):
        grid_from_table(
            {"recipe": {k: v for k, v in RECIPE.items() if k != "depth"}, "grid": {"seed": [0]}}, "x"
        )


def test_a_file_that_is_no_toml_gets_one_sentence_on_the_command_line(tmp_path):
    (tmp_path / "bad.toml").write_text("seed = [")
    for file, sentence in (
        ("bad.toml", "must be a TOML file, but"),
        ("none.toml", "must be a file, but there is none"),
    ):
        refused = CliRunner().invoke(app, ["sweep", str(tmp_path / file)])
        assert refused.exit_code == 2
        assert sentence in refused.stderr
        assert "Traceback" not in refused.output
