"""Values in temporary files: the same numbers, in no memory of the process, and no file is left."""

import errno
import os
from pathlib import Path

import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.runs import spilled as spilled_values
from loopscope.runs.run import Run
from loopscope.runs.spilled import is_large_in_files, spilled

from ..toys import known_maps


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.long])
def test_a_spilled_value_is_the_same_and_its_file_is_gone(dtype, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    value = torch.arange(12).reshape(3, 4).to(dtype)
    copy = spilled(value)
    value += 1
    assert copy.tolist() == (value - 1).tolist() and copy.dtype == dtype
    assert spilled(value[:0]).shape == (0, 4)
    assert list(tmp_path.iterdir()) == []
    maps = Path("/proc/self/maps")
    assert not maps.exists() or str(tmp_path) in maps.read_text()  # it is the file's memory


def test_a_run_in_files_goes_on_in_files(tmp_path, monkeypatch):
    model = known_maps.contracting(0.9)
    run = ls.record(model, known_maps.TOKENS, 16)
    path = run.save(tmp_path / "run.safetensors")
    stored = ls.load_run(path, model)
    assert not is_large_in_files(stored, 64)
    monkeypatch.setattr(spilled_values, "LARGE", 0)
    assert is_large_in_files(stored, 1) and not is_large_in_files(run, 10**9)
    copies = []
    monkeypatch.setattr("loopscope.runs.collector.spilled", lambda value: copies.append(1) or spilled(value))
    longer, same = ls.resume(model, stored, 24), ls.resume(model, run, 24)
    assert len(copies) == 9  # the states from the last one on
    assert torch.equal(longer.states.tensor, same.states.tensor)
    assert str(_convergence(stored)) == str(_convergence(run))


def _convergence(run: Run):
    return ls.analyses.measure("convergence", run)


def test_no_room_is_said(monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(LoopscopeError, match="there must be room for values in .* choose another folder"):
        spilled(torch.ones(3))
