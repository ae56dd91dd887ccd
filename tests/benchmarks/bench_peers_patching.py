"""Activation patching, beside hooks by hand and nnsight.

Every cell of a grid, 16 iterations by 16 positions, is patched in a plain looped net, with the
state that another input has there. By hand and with nnsight each cell takes a forward pass of its
own, as in their tutorials. loopscope starts each cell at its own iteration, which halves the work,
and patches many cells in one batch.
"""

import pytest
import torch

import loopscope as ls

from ..toys.plain_loop import plain_loop

ITERATIONS, POSITIONS, SAMPLED = 16, 16, 16
GRID = [(k, p) for k in range(ITERATIONS) for p in range(POSITIONS)]


def test_a_grid_of_cells(compare):
    nnsight = pytest.importorskip("nnsight")
    model, tokens = plain_loop(128, batch=4, positions=POSITIONS)
    wrapped = ls.wrap(model, body="core", count="turns")
    one, two = tokens, tokens.flip(1)
    run, donor = (ls.record(wrapped, x, ITERATIONS) for x in (one, two))
    chosen = torch.randperm(len(GRID), generator=torch.Generator().manual_seed(0))[:SAMPLED].tolist()
    cells = [GRID[i] for i in chosen]
    traced = nnsight.NNsight(model)

    def hand(k, p):
        call = -1

        def patched(module, args):
            nonlocal call
            call += 1
            if call != k:
                return None
            x = args[0].clone()
            x[:, p] = donor.states[k][:, p]
            return (x,)

        with torch.no_grad():
            handle = model.core.register_forward_pre_hook(patched)
            logits = model(one, turns=ITERATIONS)
            handle.remove()
        return logits

    def with_nnsight(k, p):
        value = donor.states[k][:, p]
        with torch.no_grad(), traced.trace(one, turns=ITERATIONS) as tracer:
            for _ in tracer.iter[k]:
                traced.core.input[:, p] = value
            logits = traced.output.save()
        return logits

    def logits_of_ours():
        return ls.effects(run, donor, iterations=range(ITERATIONS), metric=lambda x: x.flatten(1).float())

    whole = logits_of_ours()
    for k, p in cells[:4]:
        mine = whole.values[0, k, p, 0] + whole.base
        torch.testing.assert_close(mine, hand(k, p).flatten(1), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(mine, with_nnsight(k, p).flatten(1), atol=1e-4, rtol=1e-4)

    options = {"iterations": range(ITERATIONS), "metric": "difference"}
    compare(
        f"{len(GRID)} cells; the others' times are of {SAMPLED}: multiply by {len(GRID) // SAMPLED}",
        {
            "loopscope, the whole grid": lambda: ls.effects(run, donor, **options),
            f"hooks by hand, {SAMPLED} cells": lambda: [hand(k, p) for k, p in cells],
            f"nnsight, {SAMPLED} cells": lambda: [with_nnsight(k, p) for k, p in cells],
        },
        "no goal",
        rounds=7,
    )
