"""Runs findings: each seed of each in turn, or several at a time in processes of this machine or on
a cluster that is already running (dask.distributed).

A worker that dies is replaced: its seed goes on from the last checkpoint of its training.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..common.cluster import cluster_client
from ..common.errors import LoopscopeError
from .record import Measured
from .work import Work, measure_seed

MOST_DEATHS = 4
"""How many workers may die over one seed, before it counts as failed."""
TIMEOUT = 60.0
"""Seconds that a cluster has to answer."""
_MISSING = (
    "Findings on several processes need dask.distributed, which isn't installed ({error}). Run "
    'pip install "loopscope[sweep]", or run them one after another in this process: --workers 0.'
)
_UNREACHABLE = (
    "--scheduler must be the address of a running dask scheduler, but {address!r} doesn't answer ({error}). "
    "Write e.g. tcp://10.0.0.1:8786, or leave it out to use this machine's cores."
)

Outcome = Measured | LoopscopeError


def outcomes(
    works: Sequence[Work],
    *,
    workers: int = 0,
    scheduler: str | None = None,
    started: Callable[[Work], None] = lambda work: None,
) -> Iterator[tuple[Work, Outcome]]:
    """Each piece of work with its numbers, or with the error that ended it, as they end.

    Arguments:
        workers: processes; 0: one piece after another in this process.
        scheduler: the address of a cluster, instead of this machine's cores.
        started: is called with each piece that this process begins.
    """
    if not works:
        return
    if workers == 0 and scheduler is None:
        for work in works:
            started(work)
            yield work, _outcome(lambda work=work: measure_seed(work), work)
        return
    from distributed import as_completed

    count = min(workers or os.cpu_count() or 1, len(works))
    cluster = cluster_client(
        scheduler, count, missing=_MISSING, unreachable=_UNREACHABLE, deaths=MOST_DEATHS, timeout=TIMEOUT
    )
    with cluster as client:
        futures = {client.submit(measure_seed, work, pure=False, retries=0): work for work in works}
        for future in as_completed(futures):
            yield futures[future], _outcome(future.result, futures[future])


def _outcome(result: Callable[[], Any], work: Work) -> Outcome:
    try:
        return result()
    except LoopscopeError as error:
        return error
    except Exception as error:  # of the finding's own code, or of a worker that died
        return LoopscopeError(
            f"{work.name} with seed {work.seed} must run to its end, but ended with "
            f"{type(error).__name__}: {error}. What was trained is kept: run the same command to go on."
        )
