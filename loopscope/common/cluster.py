"""Processes that compute at the same time: of this machine, or of a cluster that is already running
(dask.distributed).

On this machine they communicate through 127.0.0.1 only, without a password, as dask's do by
default.
"""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from .errors import LoopscopeError

_LOCAL_CLUSTER: dict[str, Any] = {
    "threads_per_worker": 1,
    "processes": True,
    "dashboard_address": "127.0.0.1:0",  # any port: nobody looks at it
    "memory_limit": 0,  # dask would pause a worker to spill its data to disk; ours have none to spill
    "silence_logs": logging.CRITICAL,  # the death of a worker is no error: its task is rescheduled
}


def not_installed(missing: str, error: Exception) -> LoopscopeError:
    """The error that says that dask isn't installed; `missing` has a place {error}."""
    return LoopscopeError(missing.format(error=error))


@contextlib.contextmanager
def cluster_client(
    address: str | None = None,
    workers: int | None = None,
    *,
    missing: str,
    unreachable: str,
    deaths: int = 4,
    timeout: float = 60.0,
) -> Iterator[Any]:
    """A client of dask for the time of a with-block.

    Arguments:
        address: of a running scheduler; None: this machine's cores.
        workers: processes on this machine; None: one for each core.
        missing: the error's text where dask isn't installed, with a place {error}.
        unreachable: that where the scheduler doesn't answer, with places {address!r} and {error}.
        deaths: so many workers may die over one task before it fails.
        timeout: seconds that a cluster has to answer.

    Raises:
        LoopscopeError: dask isn't installed, or the scheduler doesn't answer.
    """
    try:
        from dask import config
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise not_installed(missing, error) from error
    if address is not None:
        try:
            client = Client(address, timeout=timeout / 4)
        except (OSError, ValueError) as error:
            raise LoopscopeError(unreachable.format(address=address, error=error)) from error
        with client:
            yield client
        return
    settings = {
        "distributed.scheduler.allowed-failures": deaths - 1,
        "distributed.scheduler.worker-saturation": 1.0,  # no task waits while a worker is free
        "distributed.comm.timeouts.connect": f"{timeout:g}s",
    }
    with config.set(settings):
        with _ignoring_interrupts():
            cluster = LocalCluster(n_workers=workers or os.cpu_count() or 1, **_LOCAL_CLUSTER)
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
