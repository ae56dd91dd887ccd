"""What recording to disk reaches of what the disk does: `make bench`. Ratios within one run, each
recording followed by `dd` of its own bytes; timings here are noisy.

The goal on a machine of two cores with nothing else on it: 70 % of dd, and less than 1,500 MB of
memory.
"""

import json
import shutil
import statistics
import subprocess
import sys
import time

import pytest

MEGABYTES, ROUNDS = 2_000, 5


@pytest.fixture
def say(capsys, benchmark):
    def say(what, value, goal):
        benchmark.extra_info[what] = value
        with capsys.disabled():
            print(f"\n    {what}: {value:.2f} ({goal})")  # noqa: T201 (what a benchmark is for)

    return say


def recorded(folder):
    """Megabytes per second, and the growth of memory."""
    line = [sys.executable, "-m", "tests.toys.recorded_megabytes", str(folder), str(MEGABYTES)]
    result = json.loads(subprocess.run(line, capture_output=True, check=True, text=True).stdout)
    return result["megabytes"] / result["seconds"], result["growth"], result["processor"]


def copied(folder):
    """Megabytes per second of dd with the same bytes."""
    line = f"cat {folder}/run/values-* | dd of={folder}/copy bs=1M iflag=fullblock conv=fdatasync"
    size = sum(file.stat().st_size for file in (folder / "run").iterdir()) / 1e6
    begin = time.monotonic()
    subprocess.run(line, shell=True, check=True, capture_output=True)
    return size / (time.monotonic() - begin)


def test_recording_to_disk(benchmark, tmp_path, say):
    ratios, growths, processor = [], [], []
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        speed, growth, seconds = recorded(folder)
        ratios.append(speed / copied(folder))
        growths.append(growth)
        processor.append(1000 * seconds / MEGABYTES)
        shutil.rmtree(folder)
    say("megabytes per second / those of dd conv=fdatasync", statistics.median(ratios), "goal at least 0.7")
    say("growth of anonymous memory in MB", max(growths), "goal at most 1500")
    say("processor time in s per GB, the model's own included", statistics.median(processor), "no goal")
    benchmark.pedantic(lambda: None)
