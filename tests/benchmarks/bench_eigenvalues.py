"""The leading eigenvalue, beside ARPACK by hand.

A loop of 8,192 numbers that settles, and one that turns. By hand it is scipy's eigs over
torch.func.jvp, to the same tolerance, with its own number of vectors.
"""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigs
from torch.nn.attention import SDPBackend, sdpa_kernel

import loopscope as ls
from loopscope import maths
from loopscope.dynamics.limit_point import continue_to_limit
from tests.toys.large_loop import BlockLoop

POSITIONS, WIDTH = 64, 128


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("fate", ["settles", "turns"])
def test_leading_eigenvalue_against_arpack_by_hand(compare, fate, causal):
    model = BlockLoop(fate, WIDTH, causal=causal).eval()
    tokens = torch.randint(0, 16, (1, POSITIONS), generator=torch.Generator().manual_seed(0))
    loop, limit = continue_to_limit(ls.record(model, tokens, 8), None, 96)
    x = limit.states[-1]
    values = []

    def ours() -> None:
        values.append(float(maths.spectral_radius(loop, x)))

    def by_hand() -> None:
        def times(v: np.ndarray) -> np.ndarray:
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
                return torch.func.jvp(loop, (x,), (torch.from_numpy(v.reshape(1, -1).copy()),))[1].numpy()[0]

        operator = LinearOperator((x.shape[1],) * 2, matvec=times, dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(x.shape[1])
        found = eigs(operator, k=1, v0=start, tol=1e-5, return_eigenvectors=False)
        values.append(float(abs(found[0])))

    row = compare(
        f"{fate}, {'causal' if causal else 'not causal'}",
        {"by hand": by_hand, "loopscope": ours},
        "goal at most 1.2",
        rounds=7,
    )
    assert values == pytest.approx([values[0]] * len(values), rel=1e-4)
    assert row.ratios["loopscope"] <= 1.2
