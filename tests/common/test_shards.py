"""Tensors in shards come back as they were, of whatever type and shape, while others still come."""

import pytest
import torch
from safetensors import safe_open

from loopscope.common import shard_writer
from loopscope.common.errors import LoopscopeError
from loopscope.common.files import checksum, save_file
from loopscope.common.shard_index import read_index, shard_file
from loopscope.common.shard_reader import ShardedTensors
from loopscope.common.shard_writer import ShardWriter

TYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.complex64,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)
SHAPES = ((), (0,), (1,), (3, 0, 2), (2, 5, 3))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_a_tensor_of_any_type_and_shape_comes_back(dtype, tmp_path):
    writer = ShardWriter(tmp_path)
    values = {str(shape): (torch.randn(shape) * 9).to(dtype) for shape in SHAPES}
    values["not contiguous"] = (torch.randn(4, 6) * 9).to(dtype).T[1:, ::2]
    for name, value in values.items():
        writer.write(name, value, {})
        assert ShardedTensors(tmp_path, writer.places)[name].equal(value)  # before the shard is complete
    writer.close()
    read = ShardedTensors(tmp_path, {place.name: place for place in read_index(tmp_path)})
    for name, value in values.items():
        assert read[name].dtype == dtype and read[name].shape == value.shape and read[name].equal(value)


def test_nan_infinity_and_the_sign_of_zero_come_back(tmp_path):
    writer = ShardWriter(tmp_path)
    value = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 5e-324], dtype=torch.float64)
    writer.write("a", value, {})
    writer.close()
    read = ShardedTensors(tmp_path, writer.places)["a"]
    assert read.view(torch.int64).equal(value.view(torch.int64))


def test_every_complete_shard_is_read_by_safetensors(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "SHARD", 4096)
    writer = ShardWriter(tmp_path)
    values = {f"value {i}": torch.full((300,), float(i)) for i in range(12)}
    for name, value in values.items():
        writer.write(name, value, {})
    writer.close()
    shards = {place.shard for place in writer.places.values()}
    assert len(shards) > 2
    seen = {}
    for number in shards:
        with safe_open(shard_file(tmp_path, number), "pt") as file:
            seen |= {name: file.get_tensor(name) for name in file.keys() if name in values}  # noqa: SIM118
    assert seen.keys() == values.keys() and all(seen[name].equal(values[name]) for name in values)


@pytest.mark.parametrize("in_inference", [False, True])
def test_a_write_into_one_value_is_none_into_its_neighbour(in_inference, tmp_path):
    """Autograd refuses a backward pass for which a value was needed that was written into since;
    only that value."""
    writer, weight = ShardWriter(tmp_path), torch.ones(3, requires_grad=True)
    for name in "ab":
        writer.write(name, torch.full((3,), 2.0), {})
    writer.close()
    read = ShardedTensors(tmp_path, writer.places)
    with torch.inference_mode(in_inference):
        first = read["a"]
    before, loss = read.written(), (weight * read["b"]).sum()
    first.add_(1)
    assert read["a"].equal(torch.full((3,), 3.0)) and read["b"].equal(torch.full((3,), 2.0))
    assert read.written() != before, "a write into what was given is noticed"
    loss.backward()
    assert weight.grad is not None and weight.grad.equal(torch.full((3,), 2.0))
    loss = (weight * read["b"]).sum()
    read["b"].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_what_has_no_bytes_is_refused_by_name(tmp_path):
    for value in (torch.ones(2, device="meta"), torch.eye(2).to_sparse()):
        with pytest.raises(
            LoopscopeError,
            match=r"must be dense and have numbers to be stored, but \{'site': 'state'\} is .*without to=",
        ):
            ShardWriter(tmp_path).write("a", value, {"site": "state"})
        with pytest.raises(LoopscopeError, match=r"to be stored, but 'a' is .* Convert it before saving"):
            save_file(tmp_path / "a.safetensors", {"a": value}, {"kind": "test"})
        with pytest.raises(LoopscopeError, match=r"to be stored, but this one is .*to_dense\(\)"):
            checksum(value)
