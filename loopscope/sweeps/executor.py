"""Runs the trials: on this machine's cores, or on a cluster that is already running
(dask.distributed).

If a worker dies, its trial is rescheduled and resumes from the checkpoint. Workers communicate
without a password, as dask's do by default; on this machine through 127.0.0.1 only.
"""

import contextlib
import hashlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..common.errors import LoopscopeError
from ..shelves.use import sources
from .grid import Grid, Trial
from .worker import WorkerReport, has_folder_id, run_trial, running_process

MOST_DEATHS = 4
"""How many workers may die while training one trial, before the trial counts as failed."""
TIMEOUT = 60.0
"""Seconds that a cluster has to answer, or to get its first worker."""

_LOCAL_CLUSTER: dict[str, Any] = {
    "threads_per_worker": 1,
    "processes": True,
    "dashboard_address": "127.0.0.1:0",  # any port: nobody looks at it
    "memory_limit": 0,  # dask would pause a worker to spill its data to disk; a training has none to spill
    "silence_logs": logging.CRITICAL,  # the death of a worker is no error: its trial is rescheduled
}

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
    with _client(min(workers or os.cpu_count() or 1, len(tasks)), scheduler) as client:
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


@contextlib.contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Any]:
    try:
        from dask import config
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise LoopscopeError(
            f"A sweep on several processes needs dask.distributed, which isn't installed ({error}). Run "
            'pip install "loopscope[sweep]", or train one after another in this process: --workers 0.'
        ) from error
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=TIMEOUT / 4)
        except (OSError, ValueError) as error:
            raise LoopscopeError(
                f"--scheduler must be the address of a running dask scheduler, but {scheduler!r} doesn't "
                f"answer ({error}). Write e.g. tcp://10.0.0.1:8786, or leave it out to use this machine's "
                "cores."
            ) from error
        with client:
            yield client
        return
    settings = {
        "distributed.scheduler.allowed-failures": MOST_DEATHS - 1,
        "distributed.scheduler.worker-saturation": 1.0,  # no trial waits while a worker is free
        "distributed.comm.timeouts.connect": f"{TIMEOUT:g}s",
    }
    with config.set(settings):
        with _ignoring_interrupts():
            cluster = LocalCluster(n_workers=workers, **_LOCAL_CLUSTER)
        with cluster, Client(cluster) as client:
            yield client


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Processes that are started here ignore Ctrl-C: this process handles it and ends them, without
    their tracebacks."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread can set it
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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
