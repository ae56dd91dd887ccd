"""Every loader, with every kind of path and of text that isn't what it reads: a sentence that names
the path, and never a wait."""

import os
import socket
from pathlib import Path

import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.common.reading import checked_path
from loopscope.probing.labels import read_labels
from loopscope.recorder.pretrained import from_pretrained
from loopscope.sweeps import read_grid
from loopscope.training import Recipe, checkpoint, train

from ..toys.damage import deep
from ..toys.file_kinds import RECIPE

LOADERS = {
    "run": ls.load_run,
    "history": ls.load_history,
    "probes": ls.load_probes,
    "lens": ls.TunedLens.load,
    "entry": ls.models.load,
    "header": ls.models.header,
    "parameters": ls.models.parameters,
    "grid": read_grid,
    "labels": read_labels,
    "probing": lambda path: ls.Probes.fit(path, torch.tensor([0, 1]), random=False),
}


def made(kind: str, folder: Path) -> Path:
    path = folder / "file.safetensors"
    if kind == "missing":
        return path
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(folder)  # the name of a socket must be short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
        os.chdir(here)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "circle":
        path.symlink_to(path)
    elif kind == "dangling":
        path.symlink_to(folder / "none")
    elif kind == "below a file":
        path.write_text("")
        return path / "file.safetensors"
    elif kind == "long":
        return folder / ("x" * 300 + ".safetensors")
    else:
        path.write_bytes(CONTENTS[kind])
    return path


CONTENTS = {
    "empty": b"",
    "zeros": bytes(4096),
    "latin": "é = [1]".encode("latin-1"),
    "zip": b"PK\x03\x04" + bytes(100),
    "pickle": b"\x80\x04\x95" + bytes(100),
    "huge length": b"\xff" * 8 + b"{}",
    "nested": b"\x60\xea" + bytes(6) + b"[" * 60_000,
    "nested table": b"a = " + b"[" * 60_000,
    "digits": b"a = " + b"1" * 10_000,
    "a page": b"<!doctype html><html></html>",
}
KINDS = [
    "missing",
    "folder",
    "pipe",
    "socket",
    "device",
    "circle",
    "dangling",
    "below a file",
    "long",
    *CONTENTS,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loader", LOADERS)
def test_what_is_no_file_of_the_kind_gets_a_sentence_and_no_wait(loader, kind, tmp_path):
    path = made(kind, tmp_path)
    with pytest.raises(LoopscopeError, match="file|folder|path") as error:
        LOADERS[loader](path)
    assert str(tmp_path) in str(error.value) or "history" in str(error.value)


@pytest.mark.parametrize(
    "path", ["a\0b.safetensors", "", None, 3, b"x.safetensors", 1.5, [], "\ud800.safetensors"]
)
@pytest.mark.parametrize("loader", LOADERS)
def test_what_is_no_path_gets_a_sentence(loader, path):
    with pytest.raises(LoopscopeError):
        LOADERS[loader](path)


def test_a_path_is_text_or_a_path():
    assert checked_path(Path("a")) == checked_path("a") == Path("a")


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", "{", '{"architectures": 3}', '{"architectures": [3]}', '{"model_type": 3}',
        '{"architectures": ["Trainer"]}', '{"architectures": ["pipeline"], "model_type": "gpt2"}',
        "[" * 50_000, '{"a": ' + "1" * 10_000 + "}", '{"model_type": "gpt2", "n_layer": "x"}',
        '{"model_type": "gpt2", "model_type": "gpt2"}', "\ufeff{}", '{"model_type": "gpt2", "n_embd": -1}',
    ],
)  # fmt: skip
def test_a_folder_whose_configuration_is_hostile(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(LoopscopeError, match="must"):
        from_pretrained(tmp_path)


def test_pickled_weights_in_a_folder_are_never_read(tmp_path):
    import transformers

    config = transformers.GPT2Config(n_layer=1, n_embd=4, n_head=1, vocab_size=5, architectures=["GPT2Model"])
    config.save_pretrained(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(LoopscopeError, match="no file named model.safetensors"):
        from_pretrained(tmp_path)
    with pytest.raises(LoopscopeError, match="weights must be safetensors"):
        from_pretrained(tmp_path, use_safetensors=False)


HOSTILE_RECIPES = [
    None,
    [],
    3,
    {},
    {"part": "Recipe"},
    {**RECIPE.to_json(), "steps": "8"},
    {**RECIPE.to_json(), "steps": True},
    {**RECIPE.to_json(), "depth": {"part": []}},
    {**RECIPE.to_json(), "depth": {"part": "Fixed"}},
    {**RECIPE.to_json(), "depth": {"part": "Fixed", "iterations": 1.5}},
    {**RECIPE.to_json(), "config": [1]},
    {**RECIPE.to_json(), "options": deep(300)},
    {**RECIPE.to_json(), "batch": 10**30 + 0.5},
    {**RECIPE.to_json(), "optimiser": {"part": "AdamW", "lr": "fast"}},
    {**RECIPE.to_json(), "task": None},
    {**RECIPE.to_json(), "gradient": {"part": "AdamW"}},
    {**RECIPE.to_json(), 3: 4},
]


@pytest.mark.parametrize("number", range(len(HOSTILE_RECIPES)))
def test_a_recipe_of_other_types_gets_a_sentence(number):
    with pytest.raises(LoopscopeError, match="must|no field|no recipe part"):
        Recipe.from_json(HOSTILE_RECIPES[number])


def test_a_recipe_still_comes_back_equal():
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE


@pytest.mark.parametrize("kind", ["folder", "pipe", "empty", "zip"])
def test_a_checkpoint_that_is_none_stops_a_training_before_it_starts(kind, tmp_path):
    made(kind, tmp_path).rename(tmp_path / checkpoint.FILE)
    with pytest.raises(LoopscopeError, match="checkpoint"):
        train(RECIPE, tmp_path, progress=False)
