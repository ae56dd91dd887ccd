"""Telling a million trajectories apart.

They are streamed, in a process of its own.
"""

import subprocess
import sys
import textwrap

SCRIPT = """
    import math, resource, sys, time, torch
    from loopscope import maths

    torch.set_num_threads(1)
    STATES, WIDTH, CHUNK, TOTAL = 64, 4, 8192, 1_000_000
    k = torch.arange(STATES)[:, None, None]

    def chunk(seed):
        # points approached, spirals, orbits, sliders and noise, a fifth each, as a loop would give them
        g = torch.Generator().manual_seed(seed)
        angle, way = 0.2 + 2.8 * torch.rand(CHUNK, 1, generator=g), torch.randn(CHUNK, WIDTH, generator=g)
        turn = torch.cat([(k * angle).cos(), (k * angle).sin(), torch.zeros(STATES, CHUNK, WIDTH - 2)], dim=2)
        noise = torch.randn(STATES, CHUNK, WIDTH, generator=g)
        kinds = [way * 0.8**k, turn * 0.9**k, turn, way * (1 + 0.1 * k), noise]
        kind = torch.arange(CHUNK) % 5
        x = torch.stack(kinds)[kind, :, torch.arange(CHUNK)].transpose(0, 1)
        return x + torch.randn(CHUNK, WIDTH, generator=g)

    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    counts = torch.zeros(len(maths.KINDS), dtype=torch.long)
    begin = before = None
    for n, found in enumerate(maths.stream(chunk(seed) for seed in range(1 + -(-TOTAL // CHUNK)))):
        if n == 0:  # after the first chunk every buffer has its size
            begin, before = time.perf_counter(), peak()
            continue
        counts += torch.bincount(found.code, minlength=len(counts))
    print(time.perf_counter() - begin, (peak() - before) / 1e6, STATES * WIDTH * 4 * int(counts.sum()) / 1e6)
"""


def test_a_million_trajectories_stream_in_bounded_memory(say, benchmark):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, growth, data = map(float, done.stdout.split())
    say("a million trajectories of 64 states, width 4: seconds", seconds, "no goal")
    say(f"growth of peak memory after the first chunk, for {data:.0f} MB: MB", growth, "goal under 100")
    assert growth < 100
    benchmark.pedantic(lambda: None)
