"""Sweeps: every training of a grid is made once, also if workers die."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from loopscope.common.errors import LoopscopeError
from loopscope.sweeps import sweep, worker
from loopscope.training import train as really_train

from .tiny_grid import TINY, tiny, weights


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
        for mark in (tmp_path / "runs").glob(f"*/{worker.RUNNING_FILE}"):
            if (mark.parent / "checkpoint.safetensors").exists() and (
                who := worker.running_process(mark.parent)
            ):
                os.kill(who["pid"], signal.SIGKILL)
                killed = mark.parent
                break
        time.sleep(0.002)
    assert process.wait() == 0, (tmp_path / "shown").read_text()
    assert killed is not None

    results = json.loads((tmp_path / "runs" / "results.json").read_text())["trainings"]
    assert [r["status"] for r in results] == ["finished"] * 12
    resumed = [r["folder"] for r in results if r["resumed_step"]]
    assert resumed == [killed.name], (
        "the training of the killed worker, and no other, went on from its checkpoint"
    )
    for trial in undisturbed.grid.trials:
        ours, theirs = weights(tmp_path / "runs", trial), weights(undisturbed.folder, trial)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not list((tmp_path / "runs").glob(f"*/{worker.RUNNING_FILE}"))

    output = (tmp_path / "shown").read_text()
    assert all(f"{done} of 12: " in output for done in range(1, 13))
    assert output.count("done, from step") == 1
    assert "12 of 12 trainings of tiny are finished. Wrote page.html" in output
    assert "Traceback" not in output
    assert (tmp_path / "page.html").stat().st_size > 1_000_000


def test_sweeping_again_trains_nothing(undisturbed, monkeypatch):
    monkeypatch.setattr(worker, "train", lambda *a, **k: pytest.fail("it was trained again"))
    again = sweep(undisturbed.grid, undisturbed.folder, workers=0, progress=False)
    assert again.complete
    assert [r.score for r in again.results] == [r.score for r in undisturbed.results]


def test_only_what_is_missing_is_trained(undisturbed, tmp_path, monkeypatch):
    trained = []

    def counted(recipe, out, **options):
        trained.append(Path(out).name)
        return really_train(recipe, out, **options)

    monkeypatch.setattr(worker, "train", counted)
    sweep(tiny(seed=[0]), tmp_path, workers=0, progress=False)
    grown = sweep(tiny(seed=[0, 1]), tmp_path, workers=0, progress=False)
    assert trained == [trial.name for trial in grown.grid.trials]


def test_a_training_that_fails_is_a_failed_cell_and_the_others_go_on(tmp_path, capsys):
    """3 heads don't divide a width of 16, which only the model knows."""
    result = sweep(tiny(**{"config.heads": [2, 3, 4]}), tmp_path, workers=0)
    assert [r.status for r in result.results] == ["finished", "failed", "finished"]
    assert "heads" in result.results[1].error
    assert not result.complete
    results = json.loads((tmp_path / "results.json").read_text())["trainings"]
    assert results[1]["error"] == result.results[1].error
    assert "2 of 3: heads 3 failed: " in capsys.readouterr().err
    page = result.page().html
    assert "1 failed" in page
    assert result.results[1].error.split(".")[0].replace("'", "&#39;") in page


def test_weights_of_another_recipe_are_not_taken_for_done(undisturbed):
    trial = undisturbed.grid.trials[0]
    folder = undisturbed.folder / trial.name
    assert worker.is_finished(folder, trial.recipe)
    assert not worker.is_finished(folder, replace(trial.recipe, seed=9))
    assert not worker.is_finished(folder, replace(trial.recipe, steps=31))
    assert not worker.is_finished(folder / "nowhere", trial.recipe)


def test_an_error_that_nobody_foresaw_is_an_answer_too_and_leaves_its_trace(tmp_path, monkeypatch):
    def fall(*a, **k):
        raise RuntimeError("out of everything")

    monkeypatch.setattr(worker, "train", fall)
    trial = tiny(seed=[0]).trials[0]
    report = worker.run_trial(
        trial.recipe.to_json(), str(tmp_path / trial.name), worker.folder_id(tmp_path), 5, 5
    )
    assert "RuntimeError: out of everything" in report.error
    assert "in fall" in (tmp_path / trial.name / worker.TRACE_FILE).read_text()


def test_a_worker_that_sees_another_folder_trains_nothing(tmp_path):
    trial = tiny(seed=[0]).trials[0]
    report = worker.run_trial(trial.recipe.to_json(), str(tmp_path / "a" / trial.name), "another sign", 5, 5)
    assert "must be visible to every worker" in report.error
    assert not (tmp_path / "a").exists()


def test_two_never_train_in_one_folder_and_who_came_second_finds_it_done(tmp_path):
    """The first is another process, which holds the folder until we let it go."""
    holder = (
        "import sys; from filelock import FileLock\n"
        f"with FileLock({str(tmp_path / worker.LOCK_FILE)!r}):\n"
        "    print('held', flush=True); sys.stdin.readline()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with first, ThreadPoolExecutor(1) as pool:
        assert first.stdout.readline() == "held\n"

        def enter():
            with worker.folder_lock(tmp_path):
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

    monkeypatch.setattr(worker, "train", stop)
    with pytest.raises(
        LoopscopeError, match="stopped; 1 of its 2 trainings are done. Run the same command to go on"
    ):
        sweep(tiny(seed=[0, 1]), tmp_path, workers=0, progress=False)
    results = json.loads((tmp_path / "results.json").read_text())["trainings"]
    assert [r["status"] for r in results] == ["finished", "missing"]
