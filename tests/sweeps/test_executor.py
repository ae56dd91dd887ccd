"""Where trials run: on a cluster the weights are the same, and errors of the cluster have a
sentence."""

import sys
import types

import pytest
import torch

from loopscope.common.errors import LoopscopeError
from loopscope.sweeps import sweep
from loopscope.sweeps.executor import report_of, run_trials

from .tiny_grid import tiny, weights


def test_who_kills_every_worker_is_a_failed_training_and_a_lost_cluster_ends_the_sweep():
    from distributed import KilledWorker

    def future(status, error=None):
        return types.SimpleNamespace(status=status, exception=lambda: error, result=lambda: ("", 5))

    killer = KilledWorker("key", None, 3)
    assert "4 workers or more died while they trained it" in report_of(future("error", killer)).error
    assert "The worker failed: OSError" in report_of(future("error", OSError("no memory"))).error
    assert report_of(future("finished")).resumed_step == 5
    with pytest.raises(LoopscopeError, match="cluster went away .* run the same command to go on"):
        report_of(future("cancelled"))


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
    result = sweep(grid, tmp_path, scheduler=cluster, progress=False)
    assert result.complete
    for trial in grid.trials:
        twin = next(t for t in undisturbed.grid.trials if t.recipe == trial.recipe)
        ours, theirs = weights(tmp_path, trial), weights(undisturbed.folder, twin)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_cluster_that_does_not_see_the_folder_is_told_before_anything_runs(cluster, tmp_path):
    with pytest.raises(
        LoopscopeError, match="must be visible to every worker, but tcp.* can't see .* a disk that they share"
    ):
        run_trials(
            tiny(seed=[0]),
            tiny(seed=[0]).trials,
            tmp_path,
            "another sign",
            on_progress=lambda *a: None,
            scheduler=cluster,
        )


def test_an_address_where_no_scheduler_answers(tmp_path, monkeypatch):
    monkeypatch.setattr("loopscope.sweeps.executor.TIMEOUT", 2.0)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(
            LoopscopeError, match="must be the address of a running dask scheduler, but '.*' doesn't answer"
        ):
            sweep(tiny(seed=[0]), tmp_path, scheduler=address, progress=False)


def test_workers_and_a_scheduler_exclude_each_other(tmp_path):
    with pytest.raises(LoopscopeError, match="Either workers or a scheduler must be given"):
        sweep(tiny(seed=[0]), tmp_path, workers=2, scheduler="tcp://127.0.0.1:1")


def test_without_dask_the_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(LoopscopeError, match=r'pip install "loopscope\[sweep\]", or .* --workers 0'):
        run_trials(
            tiny(seed=[0]), tiny(seed=[0]).trials, tmp_path, "", on_progress=lambda *a: None, workers=1
        )
