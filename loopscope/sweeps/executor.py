"""Where the trials are trained: here, on this machine's cores, or on a cluster that is already
there (dask.distributed).

A worker that dies takes nothing along: its trial is given to another, which goes on from the
checkpoint. The workers speak to each other without a password, as dask's do by default; on this
machine through 127.0.0.1 only.
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
from .grid import Grid, Trial
from .worker import Answer, running, sees, work

DEATHS = 4
"""How many workers may die over one trial, before it is the trial that is thought to kill them."""
PATIENCE = 60.0
"""Seconds that a cluster has to answer, or to get its first worker."""

_OURS: dict[str, Any] = {
    "threads_per_worker": 1,
    "processes": True,
    "dashboard_address": "127.0.0.1:0",  # its small server takes any port, and nobody is told
    "memory_limit": 0,  # dask would stop a worker to write its data to the disk; a training has none to spare
    "silence_logs": logging.CRITICAL,  # a worker's death is no news: its trial goes on elsewhere
}

Watcher = Callable[[dict[Trial, Answer], list[Trial]], None]
"""Is told, several times a second, what has ended since it was last told, and what runs."""


def farm(
    grid: Grid,
    trials: Sequence[Trial],
    folder: Path,
    sign: str,
    *,
    watch: Watcher,
    workers: int | None = None,
    scheduler: str | None = None,
) -> None:
    """Train the trials, each in its folder in `folder`.

    Arguments:
        sign: what `folder` holds for the workers to know it by.
        workers: processes; None: one for each core; 0: none, one trial after another in this
            process.
        scheduler: the address of a cluster, in place of this machine's cores.

    Raises:
        LoopscopeError: there is no such cluster; it doesn't see the folder; it went away.
    """
    tasks = {
        trial: (trial.recipe.to_json(), str(folder / trial.name), sign, grid.checkpoint_every, grid.log_every)
        for trial in trials
    }
    if not tasks:
        return
    if workers == 0 and scheduler is None:
        for trial, task in tasks.items():
            watch({}, [trial])
            watch({trial: work(*task)}, [])
        return
    with _client(min(workers or os.cpu_count() or 1, len(tasks)), scheduler) as client:
        if scheduler is not None:
            _check_sight(client, folder, sign)
        futures = {
            trial: client.submit(work, *task, key=_key(task), pure=True, retries=0)
            for trial, task in tasks.items()
        }
        while futures:
            ended = {trial: _answer(f) for trial, f in futures.items() if f.status != "pending"}
            for trial in ended:
                del futures[trial]
            watch(ended, _running(client, futures, folder))
            time.sleep(0.2)


def _key(task: tuple[Any, ...]) -> str:
    """The same for the same trial in the same folder, whoever asks: two sweeps on one cluster share
    it."""
    return f"loopscope-{hashlib.sha256(repr(task).encode()).hexdigest()[:24]}"


def _answer(future: Any) -> Answer:
    """What the trial said of itself, or what became of its worker."""
    from distributed import KilledWorker

    if future.status == "finished":
        return Answer(*future.result())
    if future.status == "error" and isinstance(future.exception(), KilledWorker):
        return Answer(
            f"{DEATHS} workers or more died while they trained it, which most often means too little memory. "
            "Give it fewer workers, or a smaller batch; it goes on from its checkpoint."
        )
    if future.status == "error":
        return Answer(f"The worker failed: {future.exception()!r}.")
    raise LoopscopeError(
        "The cluster went away before the sweep was over. Nothing that was trained is lost: run the same "
        "command to go on."
    )


def _running(client: Any, futures: dict[Trial, Any], folder: Path) -> list[Trial]:
    """The trials that a worker has, and in whose folder someone trains."""
    with contextlib.suppress(Exception):  # the cluster is busy, or has gone, which the futures will tell
        held = {str(key) for keys in client.processing().values() for key in keys}
        return [t for t, future in futures.items() if future.key in held and running(folder / t.name)]
    return []


@contextlib.contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Any]:
    try:
        from dask import config
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise LoopscopeError(
            f"A sweep on several processes needs dask.distributed, which isn't installed ({error}). Run pip "
            "install "
            '"loopscope[sweep]", or train one after another in this process: --workers 0.'
        ) from error
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=PATIENCE / 4)
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
        "distributed.scheduler.allowed-failures": DEATHS - 1,
        "distributed.scheduler.worker-saturation": 1.0,  # no trial waits behind another while a worker is free
        "distributed.comm.timeouts.connect": f"{PATIENCE:g}s",
    }
    with config.set(settings):
        with _deaf():
            cluster = LocalCluster(n_workers=workers, **_OURS)
        with cluster, Client(cluster) as client:
            yield client


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Processes that begin here don't hear Ctrl-C: the one that they work for does, and ends them
    without their tracebacks."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may choose
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _check_sight(client: Any, folder: Path, sign: str) -> None:
    """Raise unless the cluster has workers, and all of them have loopscope and see the folder."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError as error:
        raise LoopscopeError(
            f"The cluster at {client.scheduler.address} must have a worker, but got none within "
            f"{PATIENCE:g} s. Start some: dask worker ADDRESS --nthreads 1."
        ) from error
    try:
        seen = client.run(sees, str(folder), sign)
    except Exception as error:
        raise LoopscopeError(
            f"Every worker of the cluster must have the same loopscope installed, but one answered {error!r}."
        ) from error
    if blind := sorted(worker for worker, sight in seen.items() if not sight):
        raise LoopscopeError(
            f"The sweep's folder must be visible to every worker, but {', '.join(blind)} can't see {folder}. "
            "Choose a folder on a disk that they share: --folder."
        )
