"""Probes: time and memory.

64 probes on 5,000 states of width 128, and the memory that a run of 5 GB takes.
"""

import os
import subprocess
import sys
import textwrap
import time

import pytest
import torch

import loopscope as ls


def test_64_probes_on_5000_states_of_width_128(benchmark, say):
    """Each with five folds, three control label sets and random features; on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    run = ls.iterate(torch.tanh, torch.randn(5000, 128, generator=generator), 63)
    labels = torch.randint(0, 4, (5000,), generator=generator)
    ls.Probes.fit(run, labels, iterations=[0])  # scikit-learn is imported
    times = []
    for options in ({}, {"random": False, "controls": 0}):
        start = time.process_time()
        probes = ls.Probes.fit(run, labels, **options)
        times.append(time.process_time() - start)
        assert probes.score.numel() == 64
    torch.set_num_threads(threads)
    say("64 probes with controls and random features, seconds", times[0], "goal: seconds")
    say("64 probes alone, seconds", times[1], "goal: seconds")
    benchmark.pedantic(lambda: None)


@pytest.mark.parametrize("gigabytes", [float(os.environ.get("LOOPSCOPE_BENCH_GB", "5"))])
def test_a_run_of_5_gb_within_1_gb_of_memory(benchmark, say, tmp_path, gigabytes):
    """The run is recorded and written by one process and probed by another, whose peak of resident
    memory is what counts."""
    path, rows = tmp_path / "run.safetensors", 20_000
    iterations = round(gigabytes * 1e9 / (rows * 8 * 64 * 4)) - 1
    record = f"""
        import torch, loopscope as ls
        torch.manual_seed(0)
        run = ls.iterate(lambda x: 0.999 * x, torch.randn({rows}, 8, 64), {iterations})
        run.save(r"{path}")
    """
    probe = f"""
        import time, torch, loopscope as ls
        from pathlib import Path
        torch.set_num_threads(1)
        labels = torch.randn(8, generator=torch.Generator().manual_seed(1)).expand({rows}, 8) > 0
        labels = labels ^ (torch.arange({rows})[:, None] % 2 == 0)
        start = time.time()
        probes = ls.Probes.fit(r"{path}", labels, random="projection")
        # of this program alone: getrusage also counts what the process that started it had
        status = Path("/proc/self/status").read_text()
        peak = 1024 * int(status.split("VmHWM:")[1].split()[0])
        print(peak / 1e9, time.time() - start, probes.score.numel())
    """
    run = [
        subprocess.run([sys.executable, "-c", textwrap.dedent(s)], capture_output=True, text=True)
        for s in (record, probe)
    ]
    assert all(one.returncode == 0 for one in run), [one.stderr[-1500:] for one in run]
    peak, seconds, count = map(float, run[1].stdout.split())
    say(
        f"a run of {path.stat().st_size / 1e9:.2f} GB, {count:.0f} probes: peak memory, GB",
        peak,
        "goal at most 1",
    )
    say("and seconds", seconds, "as long as the disk and the sums take")
    path.unlink()
    benchmark.pedantic(lambda: None)
