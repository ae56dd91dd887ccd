"""Whatever a run has, it has again when it is loaded."""

from collections import namedtuple

import numpy as np
import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.common.file_layout import DTYPES

from ..toys.file_kinds import same, site

NAMES = [
    "a",
    "a/1",
    "a/1/0",
    "a/",
    "/",
    "",
    "tokens",
    "output",
    "padding/0",
    "input/x",
    "state/0",
    "site/0/0",
    "é/@,*[x]",
    "\ud800",
    "\0",
    "x" * 5000,
    "__metadata__",
    "3",
    "1,2",
    "halting/weights",
    "kind",
]
VALUES = [
    None,
    True,
    3,
    -(2**70),
    0.5,
    float("inf"),
    "é\ud800",
    1 + 2j,
    b"\0x",
    range(0, 9, 2),
    slice(1, None),
    torch.float16,
    torch.device("cpu"),
    torch.Size([2, 3]),
    (1, [2, (None,)]),
    {"a": {3: torch.ones(2)}},
    {1, 2},
    [],
    (),
    {},
    np.arange(6).reshape(2, 3),
    np.float64(2.5),
    np.int64(3),
    np.bool_(True),
    np.zeros((), np.float32),
    np.ones(3, ">f4"),
    torch.ones(2, dtype=torch.complex128),
    torch.zeros(0, 3),
    torch.tensor(2.0),
    torch.randn(3, 2).T,
    torch.ones(3, dtype=torch.complex64).conj(),
    *(torch.ones(3).to(d) for d in DTYPES.values()),
]


def comparable(value):
    """The value with numbers of numpy as Python's, which they come back as, and arrays in this
    machine's order of bytes."""
    if isinstance(value, dict):
        return {key: comparable(one) for key, one in value.items()}
    if isinstance(value, list) or type(value) is tuple:
        return [type(value).__name__, *map(comparable, value)]
    if isinstance(value, np.ndarray):
        return [torch.from_numpy(value.astype(value.dtype.newbyteorder("="))), "array"]
    return value.item() if isinstance(value, np.generic) else value


@pytest.fixture
def run():
    return ls.iterate(torch.tanh, torch.randn(2, 3, 4), 3, seed=np.int64(3))


def again(run, folder):
    return ls.load_run(run.save(folder / "run.safetensors"))


def test_sites_of_any_name_come_back(run, tmp_path):
    kinds = [run.states, run.states[::2], run.states[1], run.states[2:], run.states.at(position=0)]
    sites = {name: kinds[i % len(kinds)] for i, name in enumerate(NAMES)}
    loaded = again(run.with_sites(sites), tmp_path)
    assert loaded.names == NAMES
    assert all(same(site(loaded[name]), site(sites[name])) for name in NAMES)


@pytest.mark.parametrize("number", range(len(VALUES)))
@pytest.mark.parametrize("place", ["tokens", "input", "inside", "output"])
def test_inputs_of_every_type_come_back(run, tmp_path, number, place):
    value = VALUES[number]
    if place == "tokens":
        run.tokens = value
    elif place == "output":
        run.output = value
    else:
        run.inputs["x/\ud800"] = value if place == "input" else [(value, value)]
    loaded = again(run, tmp_path)
    pairs = ((loaded.tokens, run.tokens), (loaded.output, run.output), (loaded.inputs, run.inputs))
    assert all(same(comparable(one), comparable(other)) for one, other in pairs)


def test_the_origin_becomes_plain_json(run, tmp_path):
    run.origin |= {"seed": np.int64(3), "numbers": (np.float32(0.5), torch.tensor(2), {1}), 3: tmp_path}
    loaded = again(run, tmp_path)
    assert loaded.origin["seed"] == 3 and type(loaded.origin["seed"]) is int
    assert loaded.origin["numbers"] == [0.5, 2, "{1}"] and loaded.origin["3"] == str(tmp_path)
    assert again(loaded, tmp_path).origin == loaded.origin


def test_what_can_not_be_written_is_named_and_there_is_a_way(run, tmp_path):
    for value in (
        object(),
        [{"a": lambda: 0}],
        np.array(["a"]),
        torch.zeros(2).to_sparse(),
        torch.ones(1, device="meta"),
    ):
        run.inputs["x"] = value
        with pytest.raises(LoopscopeError, match="saved|saving"):
            run.save(tmp_path / "run.safetensors")
    assert list(tmp_path.iterdir()) == []
    run.inputs["x"] = None
    run.output = namedtuple("Output", "cache")(object())
    assert again(run, tmp_path).output is None
    run.origin["self"] = run.origin
    with pytest.raises(LoopscopeError, match="lists inside each other"):
        run.save(tmp_path / "run.safetensors")


def test_a_loaded_run_is_its_own_whatever_happens_to_the_file(run, tmp_path):
    path = run.save(tmp_path / "run.safetensors")
    loaded = ls.load_run(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(loaded.states.tensor, run.states.tensor)


@pytest.mark.parametrize("shared", [False, True])
def test_an_output_that_cannot_be_written_leaves_everything_else_as_it_was(run, shared, tmp_path):
    """Also where it shares a tensor with an input."""
    mask, embeds = torch.rand(2, 5), torch.rand(2, 5, 3)
    run.inputs = {"mask": mask, "embeds": embeds}
    run.output = (embeds if shared else torch.rand(2, 5, 6), object())
    loaded = ls.load_run(run.save(tmp_path / "run.safetensors"))
    assert loaded.output is None
    assert loaded.inputs["mask"].equal(mask) and loaded.inputs["embeds"].equal(embeds)
    assert loaded.states.tensor.equal(run.states.tensor)
