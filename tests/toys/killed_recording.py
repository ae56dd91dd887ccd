"""Recordings to disk that are killed: `python -m tests.toys.killed_recording HOW COUNT FOLDER`.

A process that has imported everything forks a child for each attempt. HOW says how it ends: in the
middle of a write, at some byte of the file (SIGXFSZ, which nobody handles), or at some moment
(SIGKILL). After each the folder is read, and compared with the first iterations of the recording in
memory. It prints how many attempts were killed before their end.
"""

import os
import random
import resource
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import loopscope as ls
from loopscope.common.shard_index import read_index
from loopscope.common.shard_reader import ShardedTensors

from .disk_runs import difference, last_state, prefix_difference
from .foreign_loops import Around, batch, build_loop

ITERATIONS = 24


def of_the_zoo(to: Path | None) -> Any:
    torch.manual_seed(0)
    model = ls.models.build("universal", vocabulary=5, width=8, heads=2)
    return ls.record(model.eval(), torch.arange(12).reshape(2, 6) % 5, ITERATIONS, sites="all", to=to)


def of_a_module(to: Path | None) -> Any:
    module = build_loop(Around)
    module.turns = ITERATIONS  # pyright: ignore[reportAttributeAccessIssue]
    return ls.record(ls.wrap(module, body="core"), batch(), sites="all", to=to)


def child(work: Any, folder: Path, size: int | None) -> int:
    """The process of an attempt."""
    pid = os.fork()
    if pid == 0:
        if size is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        work(folder)
        os._exit(0)
    return pid


def read(folder: Path) -> tuple[Any, str]:
    """The run in a folder; None with the reason if it has none."""
    try:
        return ls.load_run(folder), ""
    except ls.LoopscopeError as error:
        return None, str(error)


def check(folder: Path, whole: Any, killed: bool) -> None:
    """Raise unless the folder has what it must have."""
    if not killed:
        assert not difference(ls.load_run(folder), whole), difference(ls.load_run(folder), whole)
        return
    if (folder / "index.jsonl").exists():  # what it names is whole
        places = {place.name: place for place in read_index(folder)}
        assert len(list(ShardedTensors(folder, places).values())) == len(places)
    if not folder.exists():
        return
    run, why = read(folder)
    if run is None:
        assert "must hold a whole iteration" in why or "has no run.safetensors" in why, why
        assert not (folder / "index.jsonl").exists() or last_state(folder) < 2, why
        return
    if "unfinished" not in run.origin:  # killed after its end
        assert not difference(run, whole)
        return
    assert not prefix_difference(run, whole), prefix_difference(run, whole)
    # the last iteration of a module's own pass is whole when the next one begins
    assert run.iterations >= last_state(folder) - ("core_in" in run and "body" in run.origin)


def main(how: str, count: int, folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    draw, killed = random.Random(how), 0
    works = (of_the_zoo, of_a_module)
    wholes = [work(None) for work in works]
    begin = time.monotonic()
    of_the_zoo(folder / "timed")
    length = time.monotonic() - begin
    for number in range(count):
        work, whole = works[number % 2], wholes[number % 2]
        place = folder / f"{number}"
        pid = child(work, place, draw.randrange(17_000, 60_000) if how == "write" else None)
        if how == "moment":
            time.sleep(draw.random() * length)
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        assert os.WIFSIGNALED(status) or status == 0, f"A child failed (status {status})."
        killed += os.WIFSIGNALED(status)
        check(place, whole, os.WIFSIGNALED(status))
        if not (place / "run.safetensors").exists():
            work(place)  # again, over what the killed one has left
            check(place, whole, False)
    sys.stdout.write(f"{killed}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).resolve())
