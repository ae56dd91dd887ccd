"""Sweeps: a grid's trainings are all made once, whoever dies on the way, and its page hides no
seed."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import CensoredData, ecdf
from typer.testing import CliRunner

import loopscope as ls
from loopscope.cli import app
from loopscope.common import files
from loopscope.common.errors import LoopscopeError
from loopscope.sweeps import Outcome, Sweep, grid_of, outcome, read_grid, sweep
from loopscope.sweeps import worker as working
from loopscope.sweeps.censored_median import middle
from loopscope.sweeps.conditions import cells
from loopscope.sweeps.executor import _answer as answer_of
from loopscope.sweeps.executor import farm
from loopscope.sweeps.grid import Trial
from loopscope.training import Recipe, named
from loopscope.training import train as really_train

from ..toys.shared_fixtures import made_once

RECIPE = {
    "architecture": "universal",
    "task": "prefix-parity",
    "steps": 30,
    "depth": {"part": "Fixed", "iterations": 2},
    "config": {
        "vocabulary": 3,
        "width": 16,
        "heads": 2,
        "iterations": 2,
        "norm": "stream",
        "injection": "add",
    },
    "options": {"length": 6},
    "batch": 8,
    "optimiser": {"part": "AdamW", "lr": 0.01, "warmup": 4, "decay": 4},
}
TINY = """
checkpoint_every = 5
log_every = 5

[recipe]
architecture = "universal"
task = "prefix-parity"
steps = 30
depth = { part = "Fixed", iterations = 2 }
config = { vocabulary = 3, width = 16, heads = 2, iterations = 2, norm = "stream", injection = "add" }
options = { length = 6 }
batch = 8
optimiser = { part = "AdamW", lr = 0.01, warmup = 4, decay = 4 }

[grid]
seed = [0, 1, 2]
optimiser.weight_decay = [0.0, 1.0]
"config.iterations, depth.iterations" = [1, 2]
"""


def tiny(**grid):
    return grid_of({"recipe": RECIPE, "grid": grid, "checkpoint_every": 5, "log_every": 5}, "tiny")


def weights(folder, trial):
    return files.load_file(folder / trial.name / "universal.safetensors", "checkpoint")[0]


# The grid
# --------------------------------------------------------------------------------------------------------


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
    other = grid_of({"recipe": RECIPE | {"batch": 9}, "grid": {"seed": [1]}}, "tiny")
    assert other.trials[0].name != few.trials[0].name


def test_a_grid_is_read_from_toml_however_its_dots_are_written(tmp_path):
    (tmp_path / "bare.toml").write_text(TINY)
    (tmp_path / "quoted.toml").write_text(TINY.replace("optimiser.weight_decay", '"optimiser.weight_decay"'))
    bare, quoted = read_grid(tmp_path / "bare.toml"), read_grid(tmp_path / "quoted.toml")
    assert [t.name for t in bare.trials] == [t.name for t in quoted.trials]
    assert (len(bare.trials), bare.name, bare.checkpoint_every) == (12, "bare", 5)


def test_an_entrys_recipe_is_varied_and_what_is_fixed_holds_for_all():
    entry = "universal-prefix-parity"
    grid = grid_of(
        {"entry": entry, "fixed": {"steps": 7, "optimiser": {"lr": 0.5}}, "grid": {"seed": [3, 4]}}, "x"
    )
    lr = replace(named(entry).optimiser, lr=0.5)
    assert [t.recipe for t in grid.trials] == [
        replace(named(entry), steps=7, optimiser=lr, seed=seed) for seed in (3, 4)
    ]


def test_a_whole_part_of_a_recipe_can_be_varied():
    parts = [{"part": "Fixed", "iterations": 3}, {"part": "Uniform", "low": 1, "high": 3}]
    grid = tiny(depth=parts)
    assert [type(t.recipe.depth).__name__ for t in grid.trials] == ["Fixed", "Uniform"]
    assert "Uniform(low=1, high=3)" in grid.told(grid.trials[1])


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
        ({"grid": {"config.width": ["wide"]}}, "width of universal must be int, but is 'wide'"),
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
        grid_of({"recipe": RECIPE, "grid": {"seed": [0]}} | change, "x")


def test_a_recipe_with_a_field_missing_says_which():
    with pytest.raises(
        LoopscopeError, match=r"training \[recipe\] must have a recipe whose fields are all there.*'depth'"
    ):
        grid_of({"recipe": {k: v for k, v in RECIPE.items() if k != "depth"}, "grid": {"seed": [0]}}, "x")


def test_a_file_that_is_no_toml_gets_one_sentence_on_the_command_line(tmp_path):
    (tmp_path / "bad.toml").write_text("seed = [")
    for file, sentence in (("bad.toml", "must be a TOML file, but"), ("none.toml", "can't be read")):
        refused = CliRunner().invoke(app, ["sweep", str(tmp_path / file)])
        assert refused.exit_code == 2
        assert sentence in refused.stderr
        assert "Traceback" not in refused.output


# Trainings
# -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The whole grid, trained one after another in one process."""

    def grid_in(folder):
        (folder / "tiny.toml").write_text(TINY)
        return sweep(folder / "tiny.toml", folder / "runs", workers=0, shown=False)

    folder = made_once(tmp_path_factory, "undisturbed", grid_in)
    return sweep(
        folder / "tiny.toml", folder / "runs", workers=0, shown=False
    )  # what is trained is only read


@pytest.mark.slow
def test_twelve_trainings_on_two_workers_one_of_them_killed_equal_an_undisturbed_sweeps(
    undisturbed, tmp_path
):
    """SIGKILL, in the middle of a training that has a checkpoint; the other worker, or a new one,
    goes on from it."""
    (tmp_path / "tiny.toml").write_text(TINY)
    command = [
        sys.executable,
        "-m",
        "loopscope.cli",
        "sweep",
        "tiny.toml",
        "--workers",
        "2",
        "--folder",
        "runs",
        "-o",
        "page.html",
    ]
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    with (tmp_path / "shown").open("w") as shown:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=shown, stderr=subprocess.STDOUT
        )
    killed = None
    while killed is None and process.poll() is None:
        for mark in (tmp_path / "runs").glob(f"*/{working.MARK}"):
            if (mark.parent / "checkpoint.safetensors").exists() and (who := working.running(mark.parent)):
                os.kill(who["pid"], signal.SIGKILL)
                killed = mark.parent
                break
        time.sleep(0.002)
    assert process.wait() == 0, (tmp_path / "shown").read_text()
    assert killed is not None

    results = json.loads((tmp_path / "runs" / "results.json").read_text())["trainings"]
    assert [r["status"] for r in results] == ["finished"] * 12
    resumed = [r["folder"] for r in results if r["resumed"]]
    assert resumed == [killed.name], (
        "the training of the killed worker, and no other, went on from its checkpoint"
    )
    for trial in undisturbed.grid.trials:
        ours, theirs = weights(tmp_path / "runs", trial), weights(undisturbed.folder, trial)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not list((tmp_path / "runs").glob(f"*/{working.MARK}"))

    told = (tmp_path / "shown").read_text()
    assert all(f"{done} of 12: " in told for done in range(1, 13))
    assert told.count("done, from step") == 1
    assert "12 of 12 trainings of tiny are finished. Wrote page.html" in told
    assert "Traceback" not in told
    assert (tmp_path / "page.html").stat().st_size > 1_000_000


def test_sweeping_again_trains_nothing(undisturbed, monkeypatch):
    monkeypatch.setattr(working, "train", lambda *a, **k: pytest.fail("it was trained again"))
    again = sweep(undisturbed.grid, undisturbed.folder, workers=0, shown=False)
    assert again.complete
    assert [o.score for o in again.outcomes] == [o.score for o in undisturbed.outcomes]


def test_only_what_is_missing_is_trained(undisturbed, tmp_path, monkeypatch):
    trained = []

    def counted(recipe, out, **options):
        trained.append(Path(out).name)
        return really_train(recipe, out, **options)

    monkeypatch.setattr(working, "train", counted)
    sweep(tiny(seed=[0]), tmp_path, workers=0, shown=False)
    grown = sweep(tiny(seed=[0, 1]), tmp_path, workers=0, shown=False)
    assert trained == [trial.name for trial in grown.grid.trials]


def test_a_training_that_fails_is_a_failed_cell_and_the_others_go_on(tmp_path, capsys):
    """3 heads don't divide a width of 16, which only the model knows."""
    result = sweep(tiny(**{"config.heads": [2, 3, 4]}), tmp_path, workers=0)
    assert [o.status for o in result.outcomes] == ["finished", "failed", "finished"]
    assert "heads" in result.outcomes[1].failed
    assert not result.complete
    results = json.loads((tmp_path / "results.json").read_text())["trainings"]
    assert results[1]["failed"] == result.outcomes[1].failed
    assert "2 of 3: heads 3 failed: " in capsys.readouterr().err
    page = result.page().html
    assert "1 failed" in page
    assert result.outcomes[1].failed.split(".")[0].replace("'", "&#39;") in page


def test_weights_of_another_recipe_are_not_taken_for_done(undisturbed):
    trial = undisturbed.grid.trials[0]
    folder = undisturbed.folder / trial.name
    assert working.finished(folder, trial.recipe)
    assert not working.finished(folder, replace(trial.recipe, seed=9))
    assert not working.finished(folder, replace(trial.recipe, steps=31))
    assert not working.finished(folder / "nowhere", trial.recipe)


def test_who_kills_every_worker_is_a_failed_training_and_a_lost_cluster_ends_the_sweep():
    from distributed import KilledWorker

    def future(status, error=None):
        return types.SimpleNamespace(status=status, exception=lambda: error, result=lambda: ("", 5))

    killer = KilledWorker("key", None, 3)
    assert "4 workers or more died while they trained it" in answer_of(future("error", killer)).failed
    assert "The worker failed: OSError" in answer_of(future("error", OSError("no memory"))).failed
    assert answer_of(future("finished")).resumed == 5
    with pytest.raises(LoopscopeError, match="cluster went away .* run the same command to go on"):
        answer_of(future("cancelled"))


def test_an_error_that_nobody_foresaw_is_an_answer_too_and_leaves_its_trace(tmp_path, monkeypatch):
    def fall(*a, **k):
        raise RuntimeError("out of everything")

    monkeypatch.setattr(working, "train", fall)
    trial = tiny(seed=[0]).trials[0]
    answer = working.work(trial.recipe.to_json(), str(tmp_path / trial.name), working.sign(tmp_path), 5, 5)
    assert "RuntimeError: out of everything" in answer.failed
    assert "in fall" in (tmp_path / trial.name / working.TRACE).read_text()


def test_a_worker_that_sees_another_folder_trains_nothing(tmp_path):
    trial = tiny(seed=[0]).trials[0]
    answer = working.work(trial.recipe.to_json(), str(tmp_path / "a" / trial.name), "another sign", 5, 5)
    assert "must be visible to every worker" in answer.failed
    assert not (tmp_path / "a").exists()


def test_two_never_train_in_one_folder_and_who_came_second_finds_it_done(tmp_path):
    """The first is another process, which holds the folder until we let it go."""
    holder = (
        "import sys; from filelock import FileLock\n"
        f"with FileLock({str(tmp_path / working.LOCK)!r}): print('held', flush=True); sys.stdin.readline()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with first, ThreadPoolExecutor(1) as pool:
        assert first.stdout.readline() == "held\n"

        def enter():
            with working.lock(tmp_path):
                return time.monotonic()

        second = pool.submit(enter)
        time.sleep(0.6)
        assert not second.done()
        first.kill()  # the kernel gives the lock back
        assert second.result()


def test_a_stopped_sweep_says_how_to_go_on_and_keeps_its_results(tmp_path, monkeypatch):
    ended = []

    def stop(recipe, out, **options):
        if ended:
            raise KeyboardInterrupt
        ended.append(out)
        return really_train(recipe, out, **options)

    monkeypatch.setattr(working, "train", stop)
    with pytest.raises(
        LoopscopeError, match="stopped; 1 of its 2 trainings are done. Run the same command to go on"
    ):
        sweep(tiny(seed=[0, 1]), tmp_path, workers=0, shown=False)
    results = json.loads((tmp_path / "results.json").read_text())["trainings"]
    assert [r["status"] for r in results] == ["finished", "missing"]


@pytest.fixture
def cluster():
    """A cluster that somebody has: a scheduler with an address, and two workers."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp"
    ) as made:
        yield made.scheduler_address


def test_on_a_cluster_that_is_already_there_the_weights_are_the_same(cluster, undisturbed, tmp_path):
    """Two threads of one process, too: they take turns, since torch draws from one generator in a
    process."""
    grid = tiny(
        **{"seed": [0, 1], "optimiser.weight_decay": [0.0], "config.iterations, depth.iterations": [1, 2]}
    )
    result = sweep(grid, tmp_path, scheduler=cluster, shown=False)
    assert result.complete
    for trial in grid.trials:
        twin = next(t for t in undisturbed.grid.trials if t.recipe == trial.recipe)
        ours, theirs = weights(tmp_path, trial), weights(undisturbed.folder, twin)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_cluster_that_does_not_see_the_folder_is_told_before_anything_runs(cluster, tmp_path):
    with pytest.raises(
        LoopscopeError, match="must be visible to every worker, but tcp.* can't see .* a disk that they share"
    ):
        farm(
            tiny(seed=[0]),
            tiny(seed=[0]).trials,
            tmp_path,
            "another sign",
            watch=lambda *a: None,
            scheduler=cluster,
        )


def test_an_address_where_no_scheduler_answers(tmp_path, monkeypatch):
    monkeypatch.setattr("loopscope.sweeps.executor.PATIENCE", 2.0)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(
            LoopscopeError, match="must be the address of a running dask scheduler, but '.*' doesn't answer"
        ):
            sweep(tiny(seed=[0]), tmp_path, scheduler=address, shown=False)


def test_workers_and_a_scheduler_exclude_each_other(tmp_path):
    with pytest.raises(LoopscopeError, match="Either workers or a scheduler must be given"):
        sweep(tiny(seed=[0]), tmp_path, workers=2, scheduler="tcp://127.0.0.1:1")


def test_without_dask_the_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(LoopscopeError, match=r'pip install "loopscope\[sweep\]", or .* --workers 0'):
        farm(tiny(seed=[0]), tiny(seed=[0]).trials, tmp_path, "", watch=lambda *a: None, workers=1)


# The median
# ------------------------------------------------------------------------------------------------------

times = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@settings(max_examples=25)
@given(times)
def test_of_values_that_are_all_known_the_median_is_the_median(values):
    result = middle(values)
    assert result.median == pytest.approx(np.median(values))
    assert min(values) <= result.low <= result.median <= result.high <= max(values)


@settings(max_examples=25)
@given(times, st.integers(1, 6))
def test_who_never_generalised_makes_the_median_later_and_never_earlier(values, count):
    """Waiting longer than everyone who did: as an infinite delay would."""
    result = middle(values, [max(values) + 1] * count)
    expected = np.sort([*values, *[np.inf] * count])[
        [(len(values) + count - 1) // 2, (len(values) + count) // 2]
    ]
    assert result.median == (None if np.isinf(expected[1]) else pytest.approx(expected.mean()))
    assert result.high is None or result.high >= result.median


@settings(max_examples=50)
@given(times, st.lists(st.integers(1, 40), max_size=6))
def test_the_median_is_where_kaplan_and_meiers_curve_crosses_a_half(values, bounds):
    """The curve as scipy computes it."""
    waiting = ecdf(CensoredData(uncensored=values, right=bounds)).sf
    result = middle(values, bounds).median
    if result is None:
        assert waiting.probabilities[-1] >= 0.5 - 1e-9
    else:
        assert waiting.evaluate(result + 0.25) <= 0.5 + 1e-9
        assert waiting.evaluate(result - 0.25) >= 0.5 - 1e-9


def test_a_bound_below_the_known_values_says_nothing_about_their_order():
    """By hand: of 4, one left at 1; the other three halve at the second of them."""
    assert middle([10.0, 20.0, 30.0], [1.0]).median == 20.0
    assert middle([], [5.0]).median is None
    assert middle([]) is None


# The page
# --------------------------------------------------------------------------------------------------------


def dated(phase, **more):
    return Outcome("finished", score=1.0, steps=1000, phase=phase, **more)


@pytest.fixture
def grokked(undisturbed):
    """The undisturbed sweep, had its trainings kept histories: one cell generalises, one half, one
    never, one can't learn."""
    fates = {
        (0.0, 1): [dated("generalised", delay=float(d)) for d in (100, 200, 400)],
        (0.0, 2): [
            dated("generalised", delay=300.0),
            dated("memorised", waited=700.0),
            dated("memorised", waited=800.0),
        ],
        (1.0, 1): [dated("memorised", waited=900.0)] * 3,
        (1.0, 2): [dated("neither"), dated("neither"), Outcome("failed", "The loss became nan.")],
    }
    outcomes = []
    for trial in undisturbed.grid.trials:
        r = trial.recipe
        outcomes.append(fates[r.optimiser.weight_decay, r.config["iterations"]][r.seed])
    return Sweep(undisturbed.grid, undisturbed.folder, tuple(outcomes))


def test_no_seed_is_left_out_of_its_cell(grokked):
    result = {cell.label: cell for cell in cells(grokked)}
    assert [cell.signs for cell in result.values()] == ["●●●", "●◐◐", "◐◐◐", "○○×"]
    medians = [cell.middle and cell.middle.median for cell in result.values()]
    assert medians == [200.0, None, None, None]  # one of three that generalised isn't the cell's median
    assert result["weight_decay 0.0, iterations 2"].middle.censored == 2
    assert result["weight_decay 1.0, iterations 2"].middle is None


def test_the_phase_diagram_tells_each_cells_delay_or_what_it_is_longer_than(grokked):
    from loopscope.sweeps.captions import words_of
    from loopscope.sweeps.figures import phase_diagram

    panel = phase_diagram(grokked, words_of(grokked))
    texts = dict(
        zip(
            zip(*[panel.figure.data[2][k] for k in "xy"], strict=True), panel.figure.data[2].text, strict=True
        )
    )
    assert texts["0.0", "1"] == "<b>200</b><br>●●●"
    assert texts["0.0", "2"] == "<b>&gt; 700</b><br>●◐◐"
    assert texts["1.0", "2"] == "<b>none</b><br>○○×"
    assert "4 of 11 trainings generalised" in panel.seen


def test_a_third_axis_is_a_menu_and_a_single_one_a_strip(undisturbed):
    from loopscope.sweeps.captions import words_of
    from loopscope.sweeps.figures import phase_diagram

    def drawn(**axes):
        grid = tiny(seed=[0], **axes)
        made = Sweep(grid, undisturbed.folder, tuple(Outcome("finished", score=0.5) for _ in grid.trials))
        return phase_diagram(made, words_of(made))

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


def test_delays_come_from_the_history_that_a_training_kept(tmp_path):
    recipe = {
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
    trial = Trial(Recipe.from_json(recipe), (), "one")
    really_train(trial.recipe, tmp_path, progress=False)
    result = outcome(trial, tmp_path)
    told = ls.analyses.measure("grokking", ls.load_history(tmp_path))
    assert told.transitions["train"] is not None, "it learns its own examples"
    for name, dated in told.transitions.items():
        moment = result.learned.get(name)
        assert (dated is None) == (moment is None)
        assert dated is None or moment == (dated.step, dated.low, dated.high)
    assert result.delay == told.delay
    assert result.phase == ("memorised" if told.transitions["test"] is None else "generalised")
    assert (result.waited is None) == (result.phase == "generalised")
