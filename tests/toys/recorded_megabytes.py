"""A recording to disk that is measured: `python -m tests.toys.recorded_megabytes FOLDER MEGABYTES`.

A wrapped module of small width is recorded; of each iteration there are two values of 8.4 MB. It
prints as JSON: megabytes written, seconds of the clock and of the processor, and the growth of the
process's anonymous memory at its highest, in MB: what the system can't write back to a file when it
needs room.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import loopscope as ls

WIDTH = 16


class Core(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(WIDTH, WIDTH)

    def forward(self, h: Tensor) -> Tensor:
        return torch.tanh(self.map(h))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.core = Core()

    def forward(self, x: Tensor, turns: int = 2) -> Tensor:
        for _ in range(turns):
            x = self.core(x)
        return x


def anonymous() -> float:
    """Megabytes of this process's memory that no file has."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("RssAnon"))


class Peak:
    """Watches the anonymous memory until `stop`."""

    def __init__(self) -> None:
        self.first = self.highest = anonymous()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.highest = max(self.highest, anonymous())

    def stop(self) -> float:
        """The growth at its highest."""
        self._stop.set()
        self._thread.join()
        return self.highest - self.first


def main(folder: Path, megabytes: float) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, x = ls.wrap(Net().eval(), body="core", count="turns"), torch.randn(2048, 64, WIDTH)
    ls.record(model, x[:2], 2, to=folder / "first")  # imports, and the self-check
    turns = max(int(megabytes * 1e6 / x.nbytes / 2), 2)
    peak, clock, processor = Peak(), time.monotonic(), time.process_time()
    run = ls.record(model, x, turns, to=folder / "run")
    seconds = {"seconds": time.monotonic() - clock, "processor": time.process_time() - processor}
    growth, size = peak.stop(), run.nbytes / 1e6
    last = run.states[-1].clone()
    assert last.equal(ls.record(model, x, turns, keep=ls.keep.last(1)).states[-1])
    return {"megabytes": size, **seconds, "growth": growth}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), float(sys.argv[2]))))
