"""Runs the trials: on this machine's cores, or on a cluster that is already running
(dask.distributed).

If a worker dies, its trial is rescheduled and resumes from the checkpoint. Workers communicate
without a password, as dask's do by default; on this machine through 127.0.0.1 only.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..common.cluster import cluster_client
from ..common.errors import LoopscopeError
from ..shelves.use import sources
from .grid import Grid, Trial
from .worker import WorkerReport, has_folder_id, run_trial, running_process

MOST_DEATHS = 4
"""How many workers may die while training one trial, before the trial counts as failed."""
TIMEOUT = 60.0
"""Seconds that a cluster has to answer, or to get its first worker."""

_MISSING = (
    "A sweep on several processes needs dask.distributed, which isn't installed ({error}). Run "
    'pip install "loopscope[sweep]", or train one after another in this process: --workers 0.'
)
_UNREACHABLE = (
    "--scheduler must be the address of a running dask scheduler, but {address!r} doesn't answer ({error}). "
    "Write e.g. tcp://10.0.0.1:8786, or leave it out to use this machine's cores."
)

ProgressCallback = Callable[[dict[Trial, WorkerReport], list[Trial]], None]
"""Called several times a second with the reports of the trials that have ended since the last call,
and with the trials that are running."""


def run_trials(
    grid: Grid,
    trials: Sequence[Trial],
    folder: Path,
    identity: str,
    *,
    on_progress: ProgressCallback,
    workers: int | None = None,
    scheduler: str | None = None,
) -> None:
    """Train the trials, each in its folder in `folder`.

    Arguments:
        identity: the id of `folder`, by which workers recognise it.
        workers: processes; None: one for each core; 0: train the trials one after another in this
            process.
        scheduler: the address of a cluster, instead of this machine's cores.

    Raises:
        LoopscopeError: the cluster doesn't exist, doesn't share the folder, or went away.
    """
    needed = sources()
    tasks = {
        trial: (
            trial.recipe.to_json(),
            str(folder / trial.name),
            identity,
            grid.checkpoint_every,
            grid.log_every,
            needed,
        )
        for trial in trials
    }
    if not tasks:
        return
    if workers == 0 and scheduler is None:
        for trial, task in tasks.items():
            on_progress({}, [trial])
            on_progress({trial: run_trial(*task)}, [])
        return
    count = min(workers or os.cpu_count() or 1, len(tasks))
    cluster = cluster_client(
        scheduler, count, missing=_MISSING, unreachable=_UNREACHABLE, deaths=MOST_DEATHS, timeout=TIMEOUT
    )
    with cluster as client:
        if scheduler is not None:
            _check_shared_folder(client, folder, identity)
        futures = {
            trial: client.submit(run_trial, *task, key=_key(task), pure=True, retries=0)
            for trial, task in tasks.items()
        }
        while futures:
            ended = {trial: report_of(f) for trial, f in futures.items() if f.status != "pending"}
            for trial in ended:
                del futures[trial]
            on_progress(ended, _running(client, futures, folder))
            time.sleep(0.2)


def report_of(future: Any) -> WorkerReport:
    """The report of a trial's worker, or the reason why there is none.

    Raises:
        LoopscopeError: the cluster went away.
    """
    from distributed import KilledWorker

    if future.status == "finished":
        return WorkerReport(*future.result())
    if future.status == "error" and isinstance(future.exception(), KilledWorker):
        return WorkerReport(
            f"{MOST_DEATHS} workers or more died while they trained it, which most often means too little "
            "memory. Use fewer workers or a smaller batch; it resumes from its checkpoint."
        )
    if future.status == "error":
        return WorkerReport(f"The worker failed: {future.exception()!r}.")
    raise LoopscopeError(
        "The cluster went away before the sweep was over. Nothing that was trained is lost: run the same "
        "command to go on."
    )


def _key(task: tuple[Any, ...]) -> str:
    """The same for the same trial in the same folder, so that two sweeps on one cluster share
    it."""
    return f"loopscope-{hashlib.sha256(repr(task).encode()).hexdigest()[:24]}"


def _running(client: Any, futures: dict[Trial, Any], folder: Path) -> list[Trial]:
    """The trials that are assigned to a worker and whose folder has a running process."""
    with contextlib.suppress(Exception):  # the cluster is busy, or gone, which the futures show
        keys = {str(key) for keys in client.processing().values() for key in keys}
        return [t for t, future in futures.items() if future.key in keys and running_process(folder / t.name)]
    return []


def _check_shared_folder(client: Any, folder: Path, identity: str) -> None:
    """Raise unless the cluster has workers, and all of them have loopscope and see the folder."""
    try:
        client.wait_for_workers(1, timeout=TIMEOUT)
    except TimeoutError as error:
        raise LoopscopeError(
            f"The cluster at {client.scheduler.address} must have a worker, but got none within "
            f"{TIMEOUT:g} s. Start some: dask worker ADDRESS --nthreads 1."
        ) from error
    try:
        visible = client.run(has_folder_id, str(folder), identity)
    except Exception as error:
        raise LoopscopeError(
            f"Every worker of the cluster must have the same loopscope installed, but one answered {error!r}."
        ) from error
    if blind := sorted(worker for worker, sees in visible.items() if not sees):
        raise LoopscopeError(
            f"The sweep's folder must be visible to every worker, but {', '.join(blind)} can't see {folder}. "
            "Choose a folder on a disk that they share: --folder."
        )
