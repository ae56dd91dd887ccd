"""A file is written whole or not at all, and what is read from it computes exactly what was
computed before."""

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file as save_packed

import loopscope as ls
from loopscope.common import files
from loopscope.common.files import atomic_write, clear_parts, save_text

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
    tensors, header = files.load_file(run.save(tmp_path / "run.safetensors"), kind="run")
    header["origin"]["note"] = "x" * length
    old = tmp_path / "old.safetensors"
    save_packed(tensors, old, metadata={"loopscope": json.dumps(header)})
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
        for name, dtype in files.DTYPES.items()
        for number, shape in enumerate(shapes)
    }
    tensors |= {"turned": torch.randn(4, 3).T, "conjugate": torch.randn(3, dtype=torch.complex64).conj()}
    path = files.save_file(tmp_path / "x.safetensors", tensors, {"kind": "all"})
    again, _ = files.load_file(path, kind="all")
    assert again.keys() == tensors.keys() == files.load_shapes(path).keys()
    for name, tensor in tensors.items():
        assert again[name].dtype == tensor.dtype and again[name].shape == tensor.shape, name
        assert torch.equal(again[name].to(torch.complex64), tensor.to(torch.complex64)), name
        assert files.load_shapes(path)[name] == tensor.shape


def test_a_type_that_a_file_cannot_hold_is_an_error(tmp_path):
    with pytest.raises(ls.LoopscopeError, match="must be of the types F64.*'z' is torch.complex128"):
        files.save_file(tmp_path / "x.safetensors", {"z": torch.zeros(2, dtype=torch.complex128)}, {})
    assert not list(tmp_path.iterdir())


def test_a_text_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("old\n", "é\n"):
        save_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert os.listdir(tmp_path) == ["a.txt"]
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_was_there_stays_when_the_write_fails(tmp_path):
    path = tmp_path / "a.txt"
    save_text(path, "old")

    def fail() -> None:
        with atomic_write(path) as part:
            part.write_text("half")
            assert path.read_text() == "old" and part.parent == tmp_path
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_that_is_missing_is_an_os_error(tmp_path):
    with pytest.raises(OSError):
        save_text(tmp_path / "none" / "a.txt", "text")


def test_what_a_killed_write_left_is_cleared(tmp_path):
    for name in (".a.txt.x7.part", ".b.txt.x7.part", "a.txt"):
        (tmp_path / name).write_text("")
    clear_parts(tmp_path / "a.txt")
    assert sorted(os.listdir(tmp_path)) == [".b.txt.x7.part", "a.txt"]
