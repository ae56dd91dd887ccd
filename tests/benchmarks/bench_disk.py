"""Recording to disk, beside dd.

Each recording is followed by `dd conv=fdatasync` of its own bytes. The goals are for a machine with
nothing else on it.
"""

import json
import shutil
import statistics
import subprocess
import sys
import time

MEGABYTES, ROUNDS = 2_000, 5


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
