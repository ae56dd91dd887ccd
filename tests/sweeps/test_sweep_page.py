"""The page of a sweep: it shows every training, and hides no seed of a condition."""

import pytest

import loopscope as ls
from loopscope.maths.changepoints import LEAST
from loopscope.sweeps import Sweep, TrialResult, grid_from_table, read_result
from loopscope.sweeps.captions import captions_of
from loopscope.sweeps.conditions import conditions
from loopscope.sweeps.grid import Trial
from loopscope.sweeps.phase_diagram import phase_diagram
from loopscope.training import Recipe
from loopscope.training import train as really_train

from .tiny_grid import tiny


def trained(phase, **more):
    return TrialResult("finished", score=1.0, steps=1000, phase=phase, **more)


@pytest.fixture
def grokked(undisturbed):
    """The undisturbed sweep, had its trainings kept histories: one cell generalises, one half, one
    never, one can't learn."""
    fates = {
        (0.0, 1): [trained("generalised", delay=float(d)) for d in (100, 200, 400)],
        (0.0, 2): [
            trained("generalised", delay=300.0),
            trained("memorised", delay_bound=700.0),
            trained("memorised", delay_bound=800.0),
        ],
        (1.0, 1): [trained("memorised", delay_bound=900.0)] * 3,
        (1.0, 2): [trained("neither"), trained("neither"), TrialResult("failed", "The loss became nan.")],
    }
    results = []
    for trial in undisturbed.grid.trials:
        r = trial.recipe
        results.append(fates[r.optimiser.weight_decay, r.config["iterations"]][r.seed])
    return Sweep(undisturbed.grid, undisturbed.folder, tuple(results))


def test_no_seed_is_left_out_of_its_cell(grokked):
    result = {condition.label: condition for condition in conditions(grokked)}
    assert [condition.signs for condition in result.values()] == ["●●●", "●◐◐", "◐◐◐", "○○×"]
    medians = [condition.median and condition.median.value for condition in result.values()]
    assert medians == [200.0, None, None, None]  # one of three that generalised isn't the cell's median
    assert result["weight_decay 0.0, iterations 2"].median.censored == 2
    assert result["weight_decay 1.0, iterations 2"].median is None


def test_the_phase_diagram_tells_each_cells_delay_or_what_it_is_longer_than(grokked):
    panel = phase_diagram(grokked, captions_of(grokked))
    texts = dict(
        zip(
            zip(*[panel.figure.data[2][k] for k in "xy"], strict=True), panel.figure.data[2].text, strict=True
        )
    )
    assert texts["0.0", "1"] == "<b>200</b><br>●●●"
    assert texts["0.0", "2"] == "<b>&gt; 700</b><br>●◐◐"
    assert texts["1.0", "2"] == "<b>none</b><br>○○×"
    assert "4 of 11 trainings generalised" in panel.observation


def test_a_third_axis_is_a_menu_and_a_single_one_a_strip(undisturbed):
    def drawn(**axes):
        grid = tiny(seed=[0], **axes)
        made = Sweep(grid, undisturbed.folder, tuple(TrialResult("finished", score=0.5) for _ in grid.trials))
        return phase_diagram(made, captions_of(made))

    three = drawn(batch=[1, 2, 3], steps=[1, 2], **{"optimiser.lr": [0.1, 0.2]})
    assert [frame.label for frame in three.frames] == ["lr 0.1", "lr 0.2"]
    one = drawn(batch=[1, 2])
    assert [list(row) for row in one.figure.data[1].z] == [[0.5, 0.5]]
    assert not one.frames
    assert drawn() is None


def test_the_page_holds_every_training_and_the_grid_that_makes_it_again(undisturbed):
    page = undisturbed.page().html
    assert page.count("<td>finished</td>") == 12
    assert all(trial.name.rpartition("_")[2] in page for trial in undisturbed.grid.trials)
    assert "&#34;config.iterations, depth.iterations&#34; = [1, 2]" in page
    assert "12 of 12 trainings of tiny are finished" in page


GROKKING = {
    "architecture": "nanda",
    "task": "modular-addition",
    "steps": 120,
    "batch": None,
    "depth": {"part": "Fixed", "iterations": 1},
    "config": {"vocabulary": 8, "width": 16, "heads": 2, "iterations": 1},
    "options": {"modulus": 7},
    "optimiser": {"part": "AdamW", "lr": 0.01, "warmup": 4},
    "history": {"part": "Schedule", "finest": 2, "coarsest": 6},
}
"""The recipe of a training that keeps a history."""


def test_delays_come_from_the_history_that_a_training_kept(tmp_path):
    trial = Trial(Recipe.from_json(GROKKING), (), "one")
    really_train(trial.recipe, tmp_path, progress=False)
    result = read_result(trial, tmp_path)
    grokking = ls.analyses.measure("grokking", ls.load_history(tmp_path))
    assert grokking.transitions["train"] is not None, "it learns its own examples"
    for name, expected in grokking.transitions.items():
        moment = result.learning_times.get(name)
        assert (expected is None) == (moment is None)
        assert expected is None or moment == (expected.step, expected.low, expected.high)
    assert result.delay == grokking.delay
    assert result.phase == ("memorised" if grokking.transitions["test"] is None else "generalised")
    assert (result.delay_bound is None) == (result.phase == "generalised")


def test_a_history_of_too_few_looks_gives_no_dates_and_the_page_says_so(tmp_path):
    grid = grid_from_table({"recipe": GROKKING, "grid": {"steps": [6, 7]}}, "short")
    folder = tmp_path / grid.trials[0].name
    really_train(grid.trials[0].recipe, folder, progress=False)
    assert 0 < len(ls.load_history(folder).steps) < LEAST
    result = read_result(grid.trials[0], folder)
    assert result.score is not None
    assert (result.phase, result.delay, result.learning_times) == (None, None, {})
    page = Sweep(grid, tmp_path, (result, result)).page().html
    assert f"No histories of {LEAST} looks or more were kept" in page
