"""Analyses in blocks that are killed: `python -m tests.toys.killed_analysis FOLDER KILLS`.

A process that has imported everything forks a child for every attempt. Child n is ended by the
kernel (SIGKILL) before its n-th block is computed, or just after. FOLDER/run is the run that they
read, FOLDER/temporary where temporary files would be. Whatever ends, both must be as they were, and
what is measured afterwards must be what was measured before. Prints how many children were killed.
"""

import hashlib
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import loopscope as ls
from loopscope.runs import chunked

NAMES = ("cycles", "convergence")


def contents(folder: Path) -> dict[str, str]:
    """The digest of every file."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def recorded(folder: Path) -> None:
    turn = torch.tensor([[0.0, -0.9], [0.9, 0.0]])
    start = torch.randn(6, 5, 2, generator=torch.Generator().manual_seed(0))
    ls.iterate(lambda x: x @ turn, start, 16).save(folder / "run.safetensors")


def measured(folder: Path, name: str) -> str:
    return ls.analyses.measure(name, ls.load_run(folder / "run.safetensors")).to_json()


def killed_at(block: int, after: bool) -> None:
    """From now on, die when this block is computed."""
    computed, left = chunked._computed, [block]

    def dying(*arguments: Any) -> Any:
        left[0] -= 1
        result = computed(*arguments) if after or left[0] else None
        return os.kill(os.getpid(), signal.SIGKILL) if left[0] == 0 else result

    chunked._computed = dying


def attempt(folder: Path, name: str, block: int) -> int:
    """The signal that ended a child; 0 where it came to its end."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            killed_at(block, after=block % 2 == 0)
            with chunked.chunking(None, 400):  # a vector or two
                measured(folder, name)
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status) and status:
        sys.exit(f"A child failed (status {status}).")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def main(folder: Path, kills: int) -> None:
    torch.set_num_threads(1)
    run, temporary = folder / "run", folder / "temporary"
    for one in (run, temporary):
        one.mkdir(parents=True)
    tempfile.tempdir = str(temporary)
    recorded(run)
    before, results = contents(folder), {name: measured(run, name) for name in NAMES}
    count = 0
    for number in range(kills):
        name = NAMES[number % len(NAMES)]
        ended = attempt(run, name, 1 + number // len(NAMES))
        assert ended == signal.SIGKILL, f"attempt {number} on {name} ended by {ended}"
        count += 1
        assert contents(folder) == before
        assert measured(run, name) == results[name]
    sys.stdout.write(f"{count}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
