"""map_blocks: a function of each block of a run's vectors, on all cores and in bounded memory.

    results = map_blocks(function, read, blocks_of(states))

By default dask's threads compute them: torch releases Python's lock, and a thread reads its block
by itself. With "processes", or the address of a cluster, blocks are read here, a few at a time, and
sent. Which blocks there are doesn't depend on who computes them, and results come in their order,
so the numbers are the same everywhere. Nothing is kept of a computation that is killed: start it
again.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import torch

from ..common.cluster import cluster_client, not_installed
from ..common.errors import LoopscopeError
from ..core.copied import copied
from ..core.states import States
from .blocks import BLOCK, Block, blocks_of

V = TypeVar("V")
R = TypeVar("R")

PARALLEL = 256_000_000
"""Bytes of values from which on blocks are computed in parallel by default."""


class Chunking(NamedTuple):
    """How blocks are computed."""

    scheduler: str | None = None
    """One of threads, processes, or the address of a cluster; None: threads where there is much to
    do."""
    size: int = BLOCK
    """Bytes of a block."""


_MISSING = (
    "scheduler= needs dask, which isn't installed ({error}). Run "
    'pip install "loopscope[sweep]", or leave it out.'
)
_UNREACHABLE = (
    'scheduler must be "threads", "processes" or the address of a running dask scheduler, but '
    "{address!r} doesn't answer ({error}). Write e.g. tcp://10.0.0.1:8786, or leave it "
    "out to use this machine's cores."
)
_DEFAULT = Chunking()
_CHUNKING: ContextVar[Chunking] = ContextVar("chunking", default=_DEFAULT)


@contextmanager
def chunking(scheduler: str | None = None, size: int = BLOCK) -> Iterator[None]:
    """A with-block in which `map_blocks` computes so."""
    token = _CHUNKING.set(Chunking(scheduler, size))
    try:
        yield
    finally:
        _CHUNKING.reset(token)


def chosen_blocks(states: States) -> list[Block]:
    """The blocks of a site, of the size of the with-block."""
    return blocks_of(states, _CHUNKING.get().size)


def map_blocks(
    function: Callable[[V], R], read: Callable[[Block], V], blocks: Sequence[Block]
) -> list[tuple[Block, R]]:
    """The function's result for each block, in the order of the blocks.

    Arguments:
        function: pure; where processes compute, it is pickled.
        read: what it needs of a block; tensors in it may be views of the run's.

    Raises:
        LoopscopeError: the function raises one; the error names the block's examples, as a note of
            any other error does. Or there is no such scheduler.
    """
    scheduler = _CHUNKING.get().scheduler
    if len(blocks) == 1:
        return [(blocks[0], function(read(blocks[0])))]
    if scheduler is None and len(blocks) * _CHUNKING.get().size < PARALLEL:
        results = [_computed(function, read, block) for block in blocks]
    elif scheduler in (None, "threads"):
        results = _by_threads(function, read, blocks, scheduler)
    else:
        results = _by_cluster(function, read, blocks, scheduler)
    return list(zip(blocks, results, strict=True))


def _computed(function: Callable[[V], R], read: Callable[[Block], V], block: Block) -> R:
    with _named(block):
        return function(read(block))


@contextmanager
def _named(block: Block) -> Iterator[None]:
    """A with-block whose errors name the block's examples."""
    try:
        yield
    except LoopscopeError as error:
        raise LoopscopeError(f"{block.text} can't be measured: {error}") from error
    except Exception as error:
        error.add_note(f"This happened with {block.text}.")
        raise


def _by_threads(function: Any, read: Any, blocks: Sequence[Block], scheduler: str | None) -> list[Any]:
    try:
        from dask.base import compute
        from dask.delayed import delayed
        from dask.system import CPU_COUNT
    except ImportError as error:
        if scheduler is not None:
            raise not_installed(_MISSING, error) from error
        return [_computed(function, read, block) for block in blocks]
    tasks = [delayed(_computed, pure=False, traverse=False)(function, read, block) for block in blocks]
    with _one_torch_thread():
        return list(compute(*tasks, scheduler="threads", num_workers=CPU_COUNT))


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """A with-block whose new threads each compute by themselves."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _by_cluster(function: Any, read: Any, blocks: Sequence[Block], scheduler: str) -> list[Any]:
    results: list[Any] = []
    waiting: deque[tuple[Block, Any]] = deque()

    def take() -> None:
        block, future = waiting.popleft()
        with _named(block):
            results.append(future.result())

    address = None if scheduler == "processes" else scheduler
    with cluster_client(address, missing=_MISSING, unreachable=_UNREACHABLE) as client:
        most = 2 * max(1, sum(client.nthreads().values()))
        for block in blocks:
            if len(waiting) >= most:
                take()
            waiting.append((block, client.submit(_alone, function, copied(read(block)), pure=False)))
        while waiting:
            take()
    return results


def _alone(function: Callable[[V], R], values: V) -> R:
    """In a process of its own, which has its core for itself."""
    torch.set_num_threads(1)
    return function(values)
