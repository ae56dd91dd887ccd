"""Activation patching, beside TransformerLens' run_with_hooks.

The goal, on a grid of 32 iterations by 32 positions on two threads: exact grids at least 3 times as
fast as a loop over `run_with_hooks`, cell by cell, and a first look by attribution at least 50
times.
"""

import time

import torch

import loopscope as ls

from ..toys.small_models import hrm_text

ROWS, POSITIONS, ITERATIONS, SAMPLED = 4, 32, 32, 64


def seconds(call):
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def sampled(count):
    """Cells drawn over the whole grid: the loop's cost is the same for each."""
    cells = [(k, p) for k in range(ITERATIONS) for p in range(POSITIONS)]
    return [
        cells[i]
        for i in torch.randperm(len(cells), generator=torch.Generator().manual_seed(0))[:count].tolist()
    ]


def compared(run, donor, cell, say, name, benchmark):
    """`cell(k, p)`: the logits with one cell patched, by hand."""
    torch.set_num_threads(2)
    options = {"iterations": range(ITERATIONS), "metric": "difference"}
    ls.effects(run, donor, iterations=[0], positions=[0])  # what a first call loads
    exact, grid = seconds(lambda: ls.effects(run, donor, **options))
    first, _ = seconds(lambda: ls.effects(run, donor, method="attribution", exact_cells=0, **options))
    checked, told = seconds(lambda: ls.effects(run, donor, method="attribution", **options))
    cells = sampled(SAMPLED)
    naive, logits = seconds(lambda: [cell(k, p) for k, p in cells])
    naive *= ITERATIONS * POSITIONS / SAMPLED
    whole = ls.effects(
        run, donor, iterations=range(ITERATIONS), metric=lambda logits: logits.flatten(1).float()
    )
    worst = max(
        float((whole.values[0, k, p, 0] + whole.base - one.flatten(1)).abs().max())
        for (k, p), one in zip(cells, logits, strict=True)
    )
    say(
        f"{name}: exact grid, {naive:.1f} s by hand against {exact:.2f} s (largest difference {worst:.0e})",
        naive / exact,
        "goal 3",
    )
    say(f"{name}: first look alone, {first:.2f} s", naive / first, "goal 50")
    say(
        f"{name}: with its check on {told.agreement.cells} cells (correlation "
        f"{told.agreement.correlation:.2f}), {checked:.2f} s",
        naive / checked,
        "goal 50",
    )
    assert grid.values.shape[1:3] == (ITERATIONS, POSITIONS)
    benchmark.pedantic(lambda: ls.effects(run, donor, **options), rounds=1)


def test_a_trained_entry(benchmark, say):
    model = ls.models.load("universal-prefix-parity")
    one, two = (model.task.batch(ROWS, seed=seed, length=POSITIONS - 1).tokens for seed in (0, 1))
    run, donor = (ls.record(model, tokens, ITERATIONS) for tokens in (one, two))

    def cell(k, p):
        def patched(value, hook):
            if model.clock.iteration == k:
                value = value.clone()
                value[:, p] = donor.states[k][:, p]
            return value

        with torch.no_grad():
            return model.run_with_hooks(one, ITERATIONS, fwd_hooks=[("state", patched)])

    compared(run, donor, cell, say, "universal-prefix-parity", benchmark)


def test_hrm_text(benchmark, say):
    torch.manual_seed(0)
    model = hrm_text(H_cycles=ITERATIONS, L_cycles=2).eval()
    one, two = torch.randint(0, 40, (2, ROWS, POSITIONS))
    wrapped = ls.wrap(model)
    run, donor = ls.record(wrapped, one), ls.record(wrapped, two)

    def cell(k, p):
        """states[k] of the high level is what H_module's call k - 1 gave; states[0] is what the
        embedding gave."""
        calls = []

        def patched(value):
            value = value.clone()
            value[:, p] = donor.states[k][:, p]
            return value

        def hook(module, args, output):
            calls.append(0)
            return patched(output) if len(calls) == k else None

        if k == 0:
            with torch.no_grad():
                edit = ls.patch("state", iteration=0, value=donor.states[0], position=p)
                return ls.record(wrapped, one, edits=[edit]).output
        handle = model.model.H_module.register_forward_hook(hook)
        with torch.no_grad():
            logits = model(one).logits
        handle.remove()
        return logits

    compared(run, donor, cell, say, "HRM-Text", benchmark)
