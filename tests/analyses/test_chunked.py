"""Analyses in blocks: the same verdict, evidence, numbers and words as of all states at once,
whoever computes them, and without a copy of the states."""

import dataclasses
import math
import subprocess
import sys

import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.core.states import States
from loopscope.runs.chunked import chunking
from loopscope.runs.run import Run

from ..toys import known_maps

IN_BLOCKS = ("convergence", "cycles", "geometry")


def plain(iterations: int = 16) -> Run:
    """A turn that shrinks, faster at some positions, without a model."""
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]]).double()
    x = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0)).double()
    pace = torch.tensor([0.5, 0.9, 1.0])[:, None].double()
    values = [x]
    for _ in range(iterations):
        values.append(values[-1] @ turn * pace)
    return run_of([value + 3 for value in values])


def run_of(values: list[torch.Tensor], **options) -> Run:
    named = {(k,): value for k, value in enumerate(values)}
    axes = ("iteration", "batch", "position", "width")
    sites = {"state": States("state", named, axes, len(values), **options)}
    batch, positions = values[0].shape[:2]
    tokens = torch.arange(batch * positions).view(batch, positions)
    return Run(tokens=tokens, iterations=len(values) - 1, sites=sites, output=None, origin={})


def masked() -> Run:
    mask = torch.ones(5, 3, dtype=torch.bool)
    mask[0, 1:] = mask[3] = False
    return plain().with_mask(mask)


def with_nan() -> Run:
    """NaN where nothing counts, and in all states of an example that doesn't."""
    run = masked()
    for _, value in run.states.items():
        value[3], value[0, 2] = math.nan, math.inf
    return run


def ragged() -> Run:
    """An example has left the loop: its values are NaN, and it doesn't count."""
    whole = plain()
    values = [value.clone() for _, value in whole.states.items()]
    rows = {}
    for k in range(9, len(values)):
        values[k][4] = math.nan
        rows[(k,)] = torch.tensor([True, True, True, True, False])
    mask = torch.ones(5, 3, dtype=torch.bool)
    mask[4] = False
    return run_of(values, rows=rows).with_mask(mask)


def one_example() -> Run:
    return run_of([value[:1] for _, value in plain().states.items()])


def modelled() -> Run:
    return ls.record(known_maps.contracting(0.7), known_maps.TOKENS, 16)


def overflowing() -> Run:
    return ls.record(known_maps.growing(10.0), known_maps.TOKENS, 20)


def standing() -> Run:
    """Nothing moves, and whether that is rest depends on how far apart all examples are."""
    x = 1000 + torch.linspace(0, 1, 15).view(5, 3, 1).expand(5, 3, 2)
    return run_of([x.clone() for _ in range(17)])


KINDS = (plain, masked, with_nan, ragged, one_example, modelled, overflowing, standing)
RUNS = {kind.__name__: kind for kind in KINDS}


def assert_same(one, other, place: str = "result") -> None:
    """The same numbers to ten digits, and the same words."""
    if isinstance(one, torch.Tensor):
        exact = not one.is_floating_point()
        digits = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-6, "atol": 1e-7}
        torch.testing.assert_close(one, other, **digits, equal_nan=True, msg=lambda text: f"{place}: {text}")
    elif dataclasses.is_dataclass(one) or hasattr(one, "_fields"):
        names = getattr(one, "_fields", None) or [field.name for field in dataclasses.fields(one)]
        for name in names:
            assert_same(getattr(one, name), getattr(other, name), f"{place}.{name}")
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same(one[key], other[key], f"{place}[{key!r}]")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{place}[{i}]")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-12, nan_ok=True), place
    else:
        assert one == other, place


@pytest.mark.parametrize("kind", list(RUNS))
@pytest.mark.parametrize("name", IN_BLOCKS)
def test_blocks_change_nothing(name: str, kind: str):
    run = RUNS[kind]()
    whole = ls.analyses.measure(name, run)
    with chunking("threads", 1200):  # a few vectors
        parts = ls.analyses.measure(name, run)
    assert_same(whole, parts)
    assert str(whole) == str(parts)


@pytest.mark.parametrize("name", IN_BLOCKS)
def test_blocks_are_so_small_that_no_copy_of_the_states_is_made(name: str, monkeypatch):
    run, largest = plain(48), 0
    values = [value for _, value in run.states.items()]
    limit = sum(value.numel() for value in values) // 4
    stack = torch.stack

    def watched(tensors, *args, **options):
        nonlocal largest
        result = stack(tensors, *args, **options)
        largest = max(largest, result.numel())
        return result

    monkeypatch.setattr(torch, "stack", watched)
    monkeypatch.setattr(torch.Tensor, "double", _watched_double(limit))
    options = {"max_vectors": 2} if name == "geometry" else {}
    with chunking(None, 2000):
        ls.analyses.measure(name, run, **options)
    assert 0 < largest < limit


def _watched_double(limit: int):
    double = torch.Tensor.double

    def watched(self):
        assert self.numel() < limit
        return double(self)

    return watched


def test_a_path_is_measured_as_the_run(tmp_path):
    run = plain()
    path = run.save(tmp_path / "run.safetensors")
    assert_same(ls.analyses.measure("convergence", path), ls.analyses.measure("convergence", run))
    whole = ls.analyses.measure("cycles", str(path), scheduler="threads")
    assert_same(whole, ls.analyses.measure("cycles", run))


@pytest.mark.slow
def test_thirty_computations_that_are_killed_leave_nothing_and_change_nothing(tmp_path):
    line = [sys.executable, "-m", "tests.toys.killed_analysis", str(tmp_path), "30"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["30"]


def test_the_folder_of_a_recording_is_measured_as_the_run(tmp_path):
    model = known_maps.contracting(0.7)
    ls.record(model, known_maps.TOKENS, 16, to=tmp_path / "run")
    whole = ls.analyses.measure("convergence", ls.load_run(tmp_path / "run"))
    assert_same(ls.analyses.measure("convergence", tmp_path / "run"), whole)


def test_a_scheduler_is_threads_processes_or_an_address():
    with pytest.raises(LoopscopeError, match='scheduler must be "threads", "processes" or the address'):
        ls.analyses.measure("cycles", plain(), scheduler="thread")


def test_an_analysis_that_takes_all_at_once_has_no_scheduler():
    message = "scheduler= is for analyses that go in blocks, .*, but lens doesn't"
    with pytest.raises(LoopscopeError, match=message):
        ls.analyses.measure("lens", plain(), scheduler="threads")
