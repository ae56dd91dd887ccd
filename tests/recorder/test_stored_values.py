"""What is done to the values of a run in files, or with its folder, while it is read."""

import copy
import os
import sys

import pytest
import torch

import loopscope as ls
from loopscope.common import shard_writer
from loopscope.common.errors import LoopscopeError, LoopscopeWarning
from loopscope.recorder.continued_run import continued_run

TOKENS = torch.arange(18).reshape(3, 6) % 5


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return ls.models.build("universal", vocabulary=5, width=8, heads=2, iterations=4).eval()


@pytest.fixture
def runs(model, tmp_path):
    """One run in memory, in a file, in a folder as recorded and as loaded, and in batches."""
    run = ls.record(model, TOKENS)
    run.save(tmp_path / "run.safetensors")
    ls.record_many(model, TOKENS.split(2), to=tmp_path / "many")
    return {
        "memory": run,
        "to": ls.record(model, TOKENS, to=tmp_path / "run"),
        "file": ls.load_run(tmp_path / "run.safetensors", model=model),
        "folder": ls.load_run(tmp_path / "run", model=model),
        "batches": ls.load_run(tmp_path / "many", model=model),
    }


def test_what_was_computed_is_forgotten_where_a_value_is_written_into(runs):
    """However the run is read: the continuation is that of its values as they are now."""
    for name, run in runs.items():
        before = continued_run(run, 6)
        assert continued_run(run, 6) is before, name  # remembered, though values were read
        last = run.states.at(batch=slice(0, 2))[4] if name == "batches" else run.states[4]
        last.mul_(0)
        after = continued_run(run, 6)
        assert not after.states[6].equal(before.states[6]), name
        assert after.states[4][:2].equal(torch.zeros(2, 6, 8)), name
        after.states[5].add_(1)  # what is remembered was written into itself
        assert not continued_run(run, 6).states[5].equal(after.states[5]) or name == "memory", name


def test_a_result_is_not_written_over_the_run_that_it_reads(model, tmp_path, monkeypatch):
    class Ended(Exception):
        pass

    def end(*_):
        states.append(1)
        if len(states) == 3:
            raise Ended

    states, breaking = [], copy.deepcopy(model)
    breaking.state.register_forward_hook(end)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Ended):
        ls.record(breaking, TOKENS, to="run")
    with pytest.warns(LoopscopeWarning, match="interrupted"):
        run = ls.load_run("run", model=model)
    values = sorted((file.name, file.stat().st_size) for file in (tmp_path / "run").iterdir())
    with pytest.raises(LoopscopeError, match="must be another folder than that of the run, whose values"):
        ls.resume(model, run, 8, to=tmp_path / "run")
    assert sorted((file.name, file.stat().st_size) for file in (tmp_path / "run").iterdir()) == values
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")  # a folder that was named from another one
    assert ls.resume(model, run, 4, to="whole").states[4].equal(ls.record(model, TOKENS).states[4])


def test_values_in_files_are_an_array_without_dask_too(runs, monkeypatch):
    with_dask = runs["file"].states.to_xarray().compute()
    for name in ("dask", "dask.array", "dask.delayed"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it weren't installed
    for name, run in runs.items():
        array = run.states.to_xarray()
        assert array.equals(with_dask) and array.dims == with_dask.dims, name


def test_a_folder_whose_disk_fails_at_the_end_is_left_in_order(model, tmp_path, monkeypatch):
    """The error of the disk is what is said, not that of a file that was closed already."""

    def failing(path):
        if path.name.startswith("values"):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(shard_writer, "_synchronised", failing)
    with pytest.raises(LoopscopeError, match="could not be completed .*Input/output error"):
        ls.record(model, TOKENS, to=tmp_path)
    monkeypatch.undo()
    with pytest.warns(LoopscopeWarning, match="interrupted"):
        assert ls.load_run(tmp_path).iterations == 4


def test_values_are_written_in_parts_that_every_system_takes(model, tmp_path, monkeypatch):
    """Also without os.pwrite, which Windows lacks."""
    monkeypatch.setattr(shard_writer, "AT_ONCE", 100)
    monkeypatch.delattr(os, "pwrite")
    write = os.write
    sizes = []
    monkeypatch.setattr(os, "write", lambda file, part: sizes.append(len(part)) or write(file, part))
    run = ls.record(model, TOKENS, to=tmp_path)
    monkeypatch.undo()
    assert max(sizes) == 100 and run.states.tensor.equal(ls.record(model, TOKENS).states.tensor)
