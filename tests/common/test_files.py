"""A file is written whole or not at all, and what is read from it computes exactly what was
computed before."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file as save_packed

import loopscope as ls
from loopscope.common import files
from loopscope.common.file_layout import DTYPES

from ..toys.small_models import albert


@pytest.fixture(scope="module")
def run():
    torch.manual_seed(1)
    model = ls.wrap(albert().eval())
    return ls.record(model, torch.randint(0, 40, (3, 5)))


def same_logits(run, path):
    again = ls.load_run(path, model=run.model)
    assert all(value.data_ptr() % files.ALIGNMENT == 0 for _, value in again.states.items())
    return all(torch.equal(again.logits[k], run.logits[k]) for k in range(run.iterations))


@pytest.mark.parametrize("length", range(64))
def test_a_run_computes_the_same_logits_whatever_the_length_of_its_header(run, tmp_path, length):
    noted = run.with_sites({name: run[name] for name in run.names})
    noted.origin["note"] = "x" * length
    path = noted.save(tmp_path / "run.safetensors")
    assert same_logits(run, path)
    with safe_open(path, framework="pt") as file:
        mapped = [file.get_tensor(name) for name in file.keys() if not name.startswith("padding/")]  # noqa: SIM118
    assert all(files.aligned(tensor) is tensor for tensor in mapped), "nothing is copied when it is loaded"


@pytest.mark.parametrize("length", range(0, 64, 8))
def test_a_run_of_an_older_version_too_whose_tensors_lie_anywhere(run, tmp_path, length):
    sites = {name: run[name] for name in run.names}
    tensors = {f"site/{n}/{','.join(map(str, i))}": v for n, one in sites.items() for i, v in one.items()}
    about = {n: {"axes": s.axes, "labels": [0, len(s)], "rows": {}} for n, s in sites.items()}
    header = {"kind": "run", "origin": run.origin | {"note": "x" * length}, "iterations": run.iterations}
    header |= {"sites": about, "inputs": {}, "aliases": {}}
    old = tmp_path / "old.safetensors"
    tensors = {name: value.clone() for name, value in tensors.items()}
    save_packed(
        tensors | {"tokens": run.tokens, "output": run.output.clone()},
        old,
        metadata={"loopscope": json.dumps(header)},
    )
    assert same_logits(run, old)


@pytest.mark.parametrize("offset", range(64))
def test_a_tensor_is_copied_only_where_it_is_not_aligned(offset):
    memory = torch.arange(128, dtype=torch.uint8)
    assert memory.data_ptr() % 64 == 0
    tensor = memory[offset : offset + 40]
    result = files.aligned(tensor)
    assert result.data_ptr() % 64 == 0 and torch.equal(result, tensor)
    assert (result is tensor) == (offset == 0)


def test_every_type_and_shape_comes_back_as_it_was(tmp_path):
    shapes = [(3, 5), (), (0, 4), (7,)]
    tensors = {
        f"{name}/{number}": torch.ones(shape).to(dtype)
        for name, dtype in DTYPES.items()
        for number, shape in enumerate(shapes)
    }
    tensors |= {"turned": torch.randn(4, 3).T, "conjugate": torch.randn(3, dtype=torch.complex64).conj()}
    path = files.save_file(tmp_path / "x.safetensors", tensors, {"kind": "all"})
    again, _ = files.load_file(path, kind="all")
    assert again.keys() == tensors.keys() == files.load_shapes(path, "all").keys()
    for name, tensor in tensors.items():
        assert again[name].dtype == tensor.dtype and again[name].shape == tensor.shape, name
        assert torch.equal(again[name].to(torch.complex64), tensor.to(torch.complex64)), name
        assert files.load_shapes(path, "all")[name] == tensor.shape
