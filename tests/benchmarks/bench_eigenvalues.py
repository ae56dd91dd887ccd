"""The leading eigenvalue of a loop of 8,192 numbers, as a ratio of processor times taken in one
run, interleaved: `make bench`."""

import statistics
import time

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigs
from torch.nn.attention import SDPBackend, sdpa_kernel

import loopscope as ls
from loopscope import maths
from loopscope.dynamics.limit_point import continue_to_limit
from tests.toys.large_loop import BlockLoop

POSITIONS, WIDTH, ROUNDS = 64, 128, 7


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("fate", ["settles", "turns"])
def test_leading_eigenvalue_against_arpack_by_hand(benchmark, capsys, fate, causal):
    """By hand: scipy's eigs over torch.func.jvp, to the same tolerance, with its own number of
    vectors."""
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

    times: dict[str, list[float]] = {"ours": [], "by hand": []}
    for _ in range(ROUNDS):
        for name, call in (("ours", ours), ("by hand", by_hand)):
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    own, hand = (statistics.median(times[name]) for name in ("ours", "by hand"))
    benchmark.extra_info["ratio"] = own / hand
    with capsys.disabled():
        print(  # noqa: T201 (what a benchmark is for)
            f"\n    {fate}, {'causal' if causal else 'not causal'}: leading eigenvalue {own:.2f} s / by hand "
            f"{hand:.2f} s: {own / hand:.3f} (goal at most 1.2)"
        )
    assert values == pytest.approx([values[0]] * len(values), rel=1e-4)
    assert own <= 1.2 * hand
    benchmark.pedantic(ours, rounds=1)
