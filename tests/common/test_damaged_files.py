"""Whatever happens to a file, its loader says so in a sentence, or gives what was written."""

import contextlib
import json
import random
import shutil

import pytest
import torch
from safetensors.torch import save_file as save_packed

import loopscope as ls
from loopscope.common import files
from loopscope.common.errors import LoopscopeError

from ..toys.damage import damaged, edited
from ..toys.file_kinds import KINDS, same

QUICK, ALL = 63, 504


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request, tmp_path_factory):
    """A kind, the bytes of a file of it, and its content."""
    path = tmp_path_factory.mktemp("whole") / "file.safetensors"
    KINDS[request.param].write(path)
    data = path.read_bytes()
    return request.param, data, KINDS[request.param].read(path)


def check(kind, folder, numbers):
    name, data, content = kind
    path, noticed = folder / "file.safetensors", 0
    for number in numbers:
        how, changed = damaged(data, number, folder)
        path.write_bytes(changed)
        try:
            result = KINDS[name].read(path)
        except LoopscopeError:
            noticed += 1
        else:
            assert same(result, content), f"{how} number {number} of a {name} was not noticed"
    return noticed


def test_a_damaged_file_gives_a_sentence_or_what_was_written(kind, tmp_path):
    assert check(kind, tmp_path, range(QUICK)) > QUICK // 2


@pytest.mark.slow
def test_five_hundred_damages_of_every_kind_of_file(kind, tmp_path):
    assert check(kind, tmp_path, range(QUICK, QUICK + ALL)) > ALL // 2


def test_every_single_bit_of_a_file_is_watched(tmp_path):
    path = files.save_file(tmp_path / "x.safetensors", {"a": torch.arange(5.0)}, {"kind": "all", "n": 1})
    data, content = path.read_bytes(), files.load_file(path, "all")
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with contextlib.suppress(LoopscopeError):
            assert same(files.load_file(path, "all"), content), bit


def forged(data, number, folder, signed):
    """A file of today's or of an older version, whose header is another from the beginning."""
    draw, path = random.Random(number), folder / "file.safetensors"
    path.write_bytes(data)
    kind = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["loopscope"]
    header = edited(json.loads(kind), draw)
    kind = json.loads(kind)["kind"]
    tensors, _ = files.load_file(path, kind)
    if isinstance(header, dict):
        header["kind"] = kind
        header.pop("format", None)
    if signed:
        files.save_file(path, tensors, header)
    else:
        tensors = {name: value.clone() for name, value in tensors.items()}
        save_packed(tensors, path, metadata={"loopscope": json.dumps(header)})


@pytest.mark.parametrize("signed", [True, False])
def test_a_header_that_was_wrong_from_the_beginning_raises_nothing_else(kind, tmp_path, signed):
    name, data, _ = kind
    for number in range(QUICK):
        with contextlib.suppress(LoopscopeError):
            forged(data, number, tmp_path, signed)
            KINDS[name].read(tmp_path / "file.safetensors")


NUMBERS = ["1" * 10_000, "-" + "9" * 5000, "1e999999", "NaN", "Infinity", "[" * 50_000, '{"a":' * 50_000]


@pytest.mark.parametrize(
    "text", [*NUMBERS, '{"kind": "run", "kind": "run"}', "", "\ufeff{}", "null", "[]", '"']
)
def test_hostile_json_gets_a_sentence_from_every_loader(kind, tmp_path, text):
    path = tmp_path / "file.safetensors"
    for header in (text, f'{{"kind": "{kind[0]}", "origin": {text}, "sites": {text}, "recipe": {text}}}'):
        save_packed({"a": torch.ones(1)}, path, metadata={"loopscope": header})
        with pytest.raises(LoopscopeError, match=r"file\.safetensors|safetensors"):
            KINDS[kind[0]].read(path)
        if kind[0] == "checkpoint":
            continue
        path.write_bytes(len(header.encode("utf-8")).to_bytes(8, "little") + header.encode("utf-8"))
        with pytest.raises(LoopscopeError, match=r"file\.safetensors"):
            KINDS[kind[0]].read(path)


def test_a_large_file_is_checked_when_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CHECKED_AT_ONCE", 0)
    run = ls.iterate(torch.tanh, torch.randn(2, 3, 4), 5)
    path = run.save(tmp_path / "run.safetensors")
    data = bytearray(path.read_bytes())
    wanted = run.states[3].numpy().tobytes()
    at = data.find(wanted)
    data[at] ^= 1
    shutil.copyfile(path, tmp_path / "whole.safetensors")
    path.write_bytes(data)
    loaded = ls.load_run(path)
    assert torch.equal(loaded.states[4], run.states[4]) and loaded.states.shape == (6, 2, 3, 4)
    assert torch.equal(loaded.states[:3].tensor, run.states[:3].tensor)
    for read in (lambda: loaded.states[3], lambda: loaded.states.tensor, lambda: dict(loaded.states.items())):
        with pytest.raises(LoopscopeError, match="the numbers of 'site/0/3' have changed"):
            read()
    with pytest.raises(LoopscopeError, match="have changed"):
        ls.Probes.fit(path, torch.tensor([0, 1]), random=False)
    assert torch.equal(ls.load_run(tmp_path / "whole.safetensors").states.tensor, run.states.tensor)
