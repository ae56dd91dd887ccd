"""Work that is killed at one moment after another: `python -m tests.toys.killed_work WORK FOLDER`.

A process that has imported everything forks a child for every attempt. In attempt n the kernel ends
the child (SIGKILL) at its n-th touch of a file, just before it takes effect, so that every moment
between two touches is met; every third attempt ends in the middle of a write instead, at some byte
of the file (SIGXFSZ, which nobody handles). All attempts work in FOLDER/killed, each of them going
on from what the one before has left, until one comes to its end. FOLDER/whole is made by one that
nobody disturbs. Between two attempts every file that is there must be whole.
"""

import os
import random
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate  # noqa: F401 (once, not in every child)
import sklearn.linear_model  # noqa: F401 (the same)
import torch

import loopscope as ls
from loopscope.common.files import load_file, load_header
from loopscope.reports.document import Report
from loopscope.sweeps import grid_from_table, sweep
from loopscope.training import AdamW, Fixed, Recipe, train
from loopscope.training.history_schedule import Schedule

TOUCHES = {
    "open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.rmdir", "os.scandir", "os.listdir",
    "os.truncate", "fcntl.flock",
}  # fmt: skip
CONFIG = {"vocabulary": 3, "width": 8, "heads": 2, "iterations": 2, "norm": "stream", "injection": "add"}
RECIPE = Recipe(
    "universal",
    "prefix-parity",
    8,
    Fixed(2),
    config=CONFIG,
    options={"length": 6},
    batch=4,
    history=Schedule(finest=2, checkpoints=2, apart=0.0),
    optimiser=AdamW(lr=0.01, warmup=2, decay=2),
)


def training(folder: Path) -> None:
    train(RECIPE, folder, progress=False, checkpoint_every=2, log_every=1)


def sweeping(folder: Path) -> None:
    recipe = {**RECIPE.to_json(), "steps": 4, "history": None}
    grid = grid_from_table({"recipe": recipe, "grid": {"seed": [0, 1]}, "checkpoint_every": 2}, "tiny")
    result = sweep(grid, folder, workers=0, progress=False)
    assert result.complete, [one.error for one in result.results]
    Report("<p>" + "x" * 200_000, "tiny").save(folder / "page.html")


def _run() -> Any:
    start = torch.randn(24, 2, 3, generator=torch.Generator().manual_seed(1))
    return ls.iterate(torch.tanh, start, 6), start[:, 0, 0] > 0


def saving(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("one", "two", "one"):
        _run()[0].save(folder / f"{name}.safetensors")


def reporting(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for size in (100_000, 300_000):
        Report("<p>" + "x" * size, "a page").save(folder / "report.html")


def probing(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    run, labels = _run()
    stored = folder / "run.safetensors"
    if not stored.exists():
        run.save(stored)
    ls.Probes.fit(stored, labels, iterations=[1], positions=[0], random=False).save(
        folder / "probes.safetensors"
    )
    ls.load_probes(folder / "probes.safetensors")


WORK: dict[str, Callable[[Path], None]] = {
    "training": training, "sweeping": sweeping, "saving": saving, "reporting": reporting, "probing": probing,
}  # fmt: skip


def kill_at(touch: int, folder: Path) -> None:
    """From now on, die at the n-th touch of a file in the folder."""
    count = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in TOUCHES and (event == "fcntl.flock" or str(folder) in str(arguments[0])):
            count += 1
            if count == touch:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def kill_in_a_write(size: int) -> None:
    """From now on, die in the middle of the write that makes a file larger than `size` bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def attempt(work: Callable[[Path], None], folder: Path, doom: Callable[[], None] = lambda: None) -> bool:
    """One child. Whether it came to its end."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            doom()
            work(folder)
            code = 0
        finally:
            if code:
                import traceback

                traceback.print_exc()
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status) and status:
        sys.exit(f"A child failed (status {status}).")
    return status == 0


def is_kind(file: Path, kind: str) -> bool:
    """Whether a file is of that kind; a damaged one raises."""
    try:
        return bool(load_header(file, kind))
    except ls.LoopscopeError as error:
        if "but holds a" not in str(error):
            raise
        return False


def check_whole(folder: Path) -> None:
    """Raise unless every file with a name of its own is whole."""
    for file in folder.rglob("[!.]*.safetensors"):
        for kind in ("run", "probes", "training", "checkpoint", "history", "weights"):
            if is_kind(file, kind):
                load_file(file, kind)
    for page in folder.rglob("[!.]*.html"):
        assert page.stat().st_size > 100_000, f"{page} is half a page"


def main(name: str, folder: Path) -> None:
    torch.set_num_threads(1)
    draw, work = random.Random(name), WORK[name]
    killed, moment, touch = folder / "killed", 0, 0
    stride = 2 if name == "probing" else 1  # most of its touches only read
    AdamW().build(ls.models.build("universal", **CONFIG).parameters())  # imports, once
    largest = 400_000 if name in ("reporting", "sweeping") else 20_000
    while True:
        moment, touch = moment + 1, touch + stride
        if moment % 3 == 0:
            size = draw.randrange(largest)
            ended = attempt(work, killed, lambda size=size: kill_in_a_write(size))
        else:
            ended = attempt(work, killed, lambda touch=touch: kill_at(touch, killed))
        check_whole(killed)
        if ended and moment % 3:
            break  # it needs fewer touches than that
    attempt(work, killed)
    attempt(work, folder / "whole")
    sys.stdout.write(f"{moment - 1}\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).resolve())
