"""Recording: time, memory and import."""

import os
import statistics
import subprocess
import sys
import textwrap
import time

import pytest
import torch

import loopscope as ls

ITERATIONS, WIDTH = 32, 256


def ratio(one, other, rounds=9):
    """Median of the ratios of two calls' times, taken in turns so that a slow spell hits both."""
    one(), other()
    ratios = []
    for _ in range(rounds):
        start = time.perf_counter()
        one()
        middle = time.perf_counter()
        other()
        ratios.append((middle - start) / (time.perf_counter() - middle))
    return statistics.median(ratios)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ls.models.build(
        "universal", vocabulary=16, width=WIDTH, heads=4, injection="add", norm="stream"
    ).eval()


def test_recording_every_state_and_block_output(benchmark, model, say):
    tokens = torch.randint(0, 16, (16, 64))

    def bare():
        with torch.no_grad():
            model(tokens, iterations=ITERATIONS)

    def recorded():
        ls.record(model, tokens, iterations=ITERATIONS, sites=["core.0.hook_resid_post"])

    say("recording every state and block output / bare forward", ratio(recorded, bare), "goal at most 1.05")
    benchmark.pedantic(recorded, rounds=3)


def test_peak_memory_over_what_is_kept(benchmark, say):
    """Each in a process of its own: growth of the peak resident memory over a bare forward, by the
    bytes of the run."""
    script = """
        import resource, sys, torch, loopscope as ls
        torch.set_num_threads(1)
        model = ls.models.build("universal", vocabulary=16, width=256, injection="add", norm="stream").eval()
        tokens = torch.randint(0, 16, (64, 64))
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        ls.record(model, tokens, iterations=2, sites=["core.0.hook_resid_post"], keep=ls.keep.last(1))
        before = peak()
        run = ls.record(model, tokens, iterations=64, sites=["core.0.hook_resid_post"])
        print((peak() - before) / run.nbytes)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    # What is freed goes back to the system at once, so that only what is alive counts, and not the
    # allocator's holes.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    result = [
        float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
        for _ in range(3)
    ]
    say("growth of peak memory / bytes kept", statistics.median(result), "goal at most 1.1")
    benchmark.pedantic(lambda: None)


def test_import(benchmark, say):
    def run(what):
        return lambda: subprocess.run([sys.executable, "-c", what], check=True)

    say(
        "import loopscope / import torch",
        ratio(run("import loopscope"), run("import torch"), rounds=7),
        "goal at most 1.1",
    )
    benchmark.pedantic(run("import loopscope"), rounds=1)


def test_early_exit(benchmark, say):
    """A batch that halts early, against the same loop run to its end: share of time saved by share
    of iterations saved."""
    torch.manual_seed(0)
    model = ls.models.build(
        "universal", vocabulary=16, width=WIDTH, halting="interpolated", norm="stream", halting_bias=-2.5
    ).eval()
    tokens = torch.randint(0, 16, (16, 64))
    used = ls.record(model, tokens, iterations=ITERATIONS).iterations

    def early():
        with torch.no_grad():
            model.eval()(tokens, iterations=ITERATIONS)

    def whole():
        with torch.no_grad():
            model.train()(tokens, iterations=ITERATIONS)

    saved = (1 - ratio(early, whole)) / (1 - used / ITERATIONS)
    say(
        f"early exit after {used} of {ITERATIONS} iterations: time saved / iterations saved",
        saved,
        "1 would be all of it",
    )
    benchmark.pedantic(early, rounds=3)
