"""A run that is recorded to disk is the run in memory; and what an interruption leaves is its
beginning."""

import copy
import json
import pickle
import subprocess
import sys
import warnings

import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError, LoopscopeWarning
from loopscope.core.lazy_values import LazyValues

from ..toys.checked_modules import CASES, wrapped
from ..toys.disk_runs import difference, prefix_difference
from ..toys.foreign_loops import Around, Loop, batch, build_loop

ZOO = {
    "universal": {"heads": 2, "iterations": 4},
    "universal, halting": {"heads": 2, "iterations": 4, "halting": "interpolated"},
    "trm": {"heads": 2, "layers": 1, "low_updates": 2, "cycles": 2, "segments": 2, "length": 6},
}
TOKENS = torch.arange(18).reshape(3, 6) % 5


def zoo(name):
    torch.manual_seed(0)
    return ls.models.build(name.split(",")[0], vocabulary=5, width=8, **ZOO[name]).eval()


def command(how, count, folder):
    line = [sys.executable, "-m", "tests.toys.killed_recording", how, str(count), str(folder)]
    result = subprocess.run(line, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("keep", [None, ls.keep.every(2) & ls.keep.positions([0, -1])], ids=["all", "some"])
def test_a_model_of_the_zoo_has_the_same_run_on_disk(name, keep, tmp_path):
    model = zoo(name)
    whole = ls.record(model, TOKENS, sites="all", keep=keep)
    stored = ls.record(model, TOKENS, sites="all", keep=keep, to=tmp_path / "run")
    assert isinstance(stored.states.by_index, LazyValues)
    loaded = ls.load_run(tmp_path / "run", model=model)
    for run in (stored, loaded):
        assert not difference(run, whole)
        if keep is None:
            assert run.logits[1].equal(whole.logits[1])
            longer = ls.resume(model, whole, 6, start=2)
            assert not difference(ls.resume(model, run, 6, start=2), longer)
    assert repr(stored.states) == repr(whole.states)


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if n != "a body without a state"])
@pytest.mark.filterwarnings("ignore::loopscope.common.errors.LoopscopeWarning")
def test_a_foreign_module_has_the_same_run_on_disk(name, tmp_path):
    """Whatever it writes in place, whichever rows leave: each value is what it was at its time."""
    case = CASES[name]
    whole = ls.record(wrapped(case), case.example(), sites="all", seed=0)
    stored = ls.record(wrapped(case), case.example(), sites="all", seed=0, to=tmp_path / "run")
    assert not difference(stored, whole)
    assert not difference(ls.load_run(tmp_path / "run"), whole)


def test_a_pass_that_is_made_again_replaces_the_first(tmp_path):
    """Rows leave this batch, which is seen after a pass: a second one tracks them."""
    case = CASES["rows leave the batch"]
    run = ls.record(wrapped(case), case.example(), to=tmp_path / "run")
    lines = (tmp_path / "run" / "index.jsonl").read_text().splitlines()
    assert [json.loads(line)["about"]["site"] for line in lines].count("core_in") == run.iterations


class Stops(Exception):
    """As a process that ends."""


def stopping(module, call):
    """The module, which raises in this call."""
    calls = []

    def hook(*_):
        calls.append(1)
        if len(calls) == call:
            raise Stops

    module.register_forward_hook(hook)


@pytest.mark.parametrize("name", ZOO)
def test_an_interruption_leaves_the_whole_iterations_of_a_model(name, tmp_path):
    whole = ls.record(zoo(name), TOKENS, 3, sites="all")
    model = zoo(name)
    stopping(model.state, 3)  # states[2] is computed, and not recorded
    with pytest.raises(Stops):
        ls.record(model, TOKENS, 3, sites="all", to=tmp_path / "run")
    with pytest.warns(LoopscopeWarning, match="ends with iteration 1"):
        run = ls.load_run(tmp_path / "run", model=zoo(name))
    assert run.iterations == 1 and not prefix_difference(run, whole)
    assert run.logits[1].equal(whole.logits[1])
    longer = ls.resume(zoo(name), run, 3)
    assert longer.states.tensor.equal(whole.states.tensor)
    ls.record(zoo(name), TOKENS, 3, sites="all", to=tmp_path / "run")  # in its place
    assert not difference(ls.load_run(tmp_path / "run"), whole)


def test_a_run_that_goes_on_is_recorded_to_disk_too(tmp_path):
    """Also one that is interrupted while it goes on, and of a module that is wrapped by its
    body."""
    run, model = ls.record(zoo("trm"), TOKENS, 2, sites="all"), zoo("trm")
    whole = ls.record(zoo("trm"), TOKENS, 4, sites="all")
    stopping(model.state, 3)
    with pytest.raises(Stops):
        ls.resume(model, run, 4, to=tmp_path / "run")
    with pytest.warns(LoopscopeWarning, match="ends with iteration 3"):
        part = ls.load_run(tmp_path / "run", model=zoo("trm"))
    assert not prefix_difference(part.with_sites({n: part[n] for n in ("state", "state.low")}), whole)
    for longer in (ls.resume(zoo("trm"), run, 4, to=tmp_path / "run"), ls.load_run(tmp_path / "run")):
        assert longer.states.tensor.equal(whole.states.tensor) and longer.output.equal(whole.output)
        assert difference(longer, ls.resume(zoo("trm"), run, 4)) == ""
    wrapped_loop = ls.wrap(build_loop(Loop), body="core")
    run = ls.record(wrapped_loop, batch())
    longer = ls.resume(wrapped_loop, run, 9, to=tmp_path / "wrapped")
    assert not difference(longer, ls.resume(wrapped_loop, run, 9))
    with pytest.raises(LoopscopeError, match="has a run already"):
        ls.resume(wrapped_loop, run, 9, to=tmp_path / "wrapped")


@pytest.mark.parametrize("kind", [Loop, Around])
def test_an_interruption_leaves_the_whole_iterations_of_a_foreign_module(kind, tmp_path):
    """What is called after the body belongs to its iteration, which is whole when the body is
    called again."""
    whole = ls.record(ls.wrap(build_loop(kind), body="core"), batch(), sites="all")
    module = build_loop(kind)
    stopping(module.core, 4)
    with pytest.raises(Stops):
        ls.record(ls.wrap(module, body="core"), batch(), sites="all", to=tmp_path / "run")
    with pytest.warns(LoopscopeWarning, match="ends with iteration 3"):
        run = ls.load_run(tmp_path / "run")
    assert run.iterations == 3 and not prefix_difference(run, whole)
    assert "interrupted" in run.states.reasons[0]


def test_a_recording_that_is_killed_within_a_write_is_read(tmp_path):
    assert command("write", 3, tmp_path) == 3


@pytest.mark.slow
def test_a_recording_that_is_killed_at_any_moment_is_read(tmp_path):
    """Thirty times; how many end before the kernel gets to it depends on the machine."""
    assert command("moment", 40, tmp_path) >= 20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted by Linux' RssAnon")
def test_memory_does_not_grow_with_the_run(tmp_path):
    """A run of 800 MB, of 95 values of 8.4 MB: those that the model computes with are in memory,
    and what was freed goes back to the system with each shard."""
    line = [sys.executable, "-m", "tests.toys.recorded_megabytes", str(tmp_path), "800"]
    result = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
    assert result["megabytes"] > 750 and result["growth"] < 300, result


def test_a_damaged_value_is_named_when_it_is_read(tmp_path):
    run = ls.record(zoo("universal"), TOKENS, 3, to=tmp_path / "run")
    shard = tmp_path / "run" / "values-00000.safetensors"
    content = bytearray(shard.read_bytes())
    value = run.states[2].contiguous().numpy().tobytes()
    content[content.index(value) + 5] ^= 1
    shard.write_bytes(content)
    run = ls.load_run(tmp_path / "run")
    assert run.states[1].shape == (3, 6, 8)
    with pytest.raises(
        LoopscopeError, match=r"values-00000.safetensors .*'state' at iteration 2 have changed"
    ):
        run.states[2]
    shard.write_bytes(content[:-200])
    with pytest.raises(
        LoopscopeError, match="values-00000.safetensors .*it ends before 'state' at iteration 3"
    ):
        ls.load_run(tmp_path / "run").states[3]
    shard.unlink()
    with pytest.raises(LoopscopeError, match=r"values-00000.safetensors must hold 'state'.*there is none"):
        ls.load_run(tmp_path / "run").states[1]
    index = tmp_path / "run" / "index.jsonl"
    index.write_bytes(index.read_bytes().replace(b'"index":[1]', b'"index":[2]'))
    with pytest.raises(
        LoopscopeError, match=r"index.jsonl must hold what was written.*its bytes have changed"
    ):
        ls.load_run(tmp_path / "run")


def test_a_run_on_disk_is_read_where_it_is_asked(tmp_path):
    """A copy and another process have the place of the values, not their bytes; dask reads what is
    computed; what is written to a value stays in memory."""
    xarray = pytest.importorskip("xarray")
    model = zoo("trm")
    run = ls.record(model, TOKENS, sites="all", to=tmp_path / "run")
    assert run.states[2].numpy().tobytes() not in pickle.dumps(run)
    twice, before = copy.deepcopy(run), run.states[1].clone()
    run.states[1].zero_()
    assert twice.states[1].equal(before) and pickle.loads(pickle.dumps(run)).states[1].equal(before)
    assert ls.load_run(tmp_path / "run").states[1].equal(before)
    whole = ls.record(model, TOKENS, sites="all")
    for name in ("state", "state.low", "core.0.hook_resid_post"):
        if name in run:
            lazy, array = twice[name].to_xarray(), whole[name].to_xarray()
            assert lazy.chunks is not None and array.chunks is None
            xarray.testing.assert_identical(lazy.compute(), array)


def test_values_of_every_kind_of_function(tmp_path):
    """Measures read a run on disk like another."""
    run = ls.record(zoo("universal"), TOKENS, 6, to=tmp_path / "run")
    whole = ls.record(zoo("universal"), TOKENS, 6)
    one, other = ls.analyses.measure("convergence", run), ls.analyses.measure("convergence", whole)
    assert (one.verdict, one.sentence) == (other.verdict, other.sentence)
    assert ls.lens(run).entropy().equal(ls.lens(whole).entropy())
    assert not difference(ls.load_run(run.save(tmp_path / "one file.safetensors")), whole)
    start = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    iterated = ls.iterate(torch.tanh, start, 5, to=tmp_path / "iterated")
    assert not difference(iterated, ls.iterate(torch.tanh, start, 5))


def test_what_cannot_be_recorded_to_disk_is_refused(tmp_path):
    model, folder = zoo("universal"), tmp_path / "run"
    with pytest.raises(LoopscopeError, match="grad=True keeps the graph .* but to= writes them to disk"):
        ls.record(model, TOKENS, grad=True, to=folder)
    with pytest.raises(LoopscopeError, match=r"keep=last\(2\) keeps the last values alone"):
        ls.record(model, TOKENS, keep=ls.keep.last(2), to=folder)
    with pytest.raises(LoopscopeError, match="there is no site"):
        ls.record(model, TOKENS, sites="no such", to=folder)
    ls.record(model, TOKENS, 2, to=folder)  # nothing was left there
    with pytest.raises(LoopscopeError, match="has a run already"):
        ls.record(model, TOKENS, 2, to=folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    with pytest.raises(LoopscopeError, match=r"must be a new or empty folder.*has 'notes.txt'"):
        ls.record(model, TOKENS, 2, to=tmp_path / "other")
    with pytest.raises(LoopscopeError, match=r"must be a folder, but .*notes.txt is a file"):
        ls.record(model, TOKENS, 2, to=tmp_path / "other" / "notes.txt")
    with pytest.raises(LoopscopeError, match="must be a folder that ls.record"):
        ls.load_run(tmp_path / "other")
    with pytest.raises(LoopscopeError, match="but iterations=3 was passed"):
        ls.record(ls.wrap(build_loop(Loop), body="core"), batch(), 3, to=tmp_path / "third")


def test_no_warning_comes_with_a_recording_to_disk(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ls.record(zoo("universal"), TOKENS, 2, to=tmp_path / "run").states[1].add_(1)
