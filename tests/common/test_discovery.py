"""The shelves find what stands on them by its name, and say so when there is no such thing."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import loopscope as ls
import loopscope.analyses as analyses
import loopscope.models as models
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError
from loopscope.common.files import load_file, save_file

ROOT = Path(__file__).parents[2]
SMALL = {"vocabulary": 3, "width": 16, "heads": 2, "iterations": 3}
TOKENS = torch.tensor([[0, 1, 1, 0, 1]])


def checkpoint(path: Path, **changed) -> Path:
    """A whole checkpoint of a small model, with `changed` in its header."""
    header = {
        "kind": "checkpoint",
        "entry": "mine",
        "architecture": "universal",
        "config": SMALL,
        "task": {"name": "prefix-parity", "options": {}},
    }
    return save_file(path, dict(models.build("universal", **SMALL).state_dict()), header | changed)


def test_every_file_in_the_folder_is_on_the_shelf():
    assert models.names() == sorted(path.stem for path in (ROOT / "models").glob("*.py"))
    assert analyses.names() == sorted(p.parent.name for p in (ROOT / "analyses").glob("*/__init__.py"))
    assert "universal" in models.names()


def test_an_entry_is_its_weights_with_its_card():
    weights = {path.stem for path in (ROOT / "models").glob("*.safetensors")}
    histories = {name for name in weights if name.endswith(".history")}
    assert set(models.entries()) == weights - histories, "weights without a card"
    assert {name.removesuffix(".history") for name in histories} <= weights, "a history without its entry"
    assert all(models.card(entry).startswith("# ") for entry in models.entries())


@pytest.mark.parametrize("entry", models.entries())
def test_a_trained_entry_loads_with_its_task_and_is_ready_to_evaluate(entry: str):
    model = models.load(entry)
    batch = model.task.batch(2, seed=0)
    assert (model.name, model.training) == (entry, False)
    assert model(batch.tokens).shape == (*batch.targets.shape, model.vocabulary)
    assert models.header(entry)["architecture"] in models.names()


def test_importing_the_shelves_stays_light():
    heavy = "{'transformer_lens', 'plotly', 'pydantic', 'sklearn'} & set(sys.modules)"
    code = f"import sys, loopscope.models, loopscope.analyses; print({heavy} or 'light')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "light"


def test_the_maths_is_reached_from_the_package_and_costs_nothing_before():
    reached = "'scipy' in sys.modules, hasattr(ls.maths, 'period'), hasattr(ls, 'math')"
    code = f"import sys, loopscope as ls; print({reached})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]


def test_every_public_name_is_there_and_is_documented_with_an_example():
    assert len(ls.__all__) == len(set(ls.__all__)) and set(ls.__all__) == set(dir(ls))
    for name in ls.__all__:
        value = getattr(ls, name)
        assert value.__doc__, name
        if not isinstance(value, ModuleType) and not name.startswith("Loopscope"):
            assert ">>>" in value.__doc__, f"{name} needs an example"


def test_the_same_seed_builds_the_same_weights_and_leaves_the_callers_stream_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (models.build("universal", seed=seed, **SMALL) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first(TOKENS), again(TOKENS))
    assert not torch.equal(first(TOKENS), other(TOKENS))


def test_a_checkpoint_of_ones_own_loads_by_its_path(tmp_path: Path):
    path = checkpoint(tmp_path / "mine.safetensors")
    model = models.load(path)
    assert torch.equal(model(TOKENS), models.build("universal", **SMALL).eval()(TOKENS))
    assert (model.name, model.task.name) == ("mine", "prefix-parity")


def test_a_list_out_of_json_becomes_the_tuple_that_the_config_declares():
    assert models.build("universal", layers=[1, 1, 0], **SMALL).config.layers == (1, 1, 0)  # pyright: ignore


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (
            lambda: models.build("univrsal"),
            "There is no architecture called 'univrsal'. Did you mean 'universal'?",
        ),
        (lambda: models.load("unknown-entry"), "There is no entry called 'unknown-entry'."),
        (lambda: models.card("unknown-entry"), "There is no entry called 'unknown-entry'."),
        (
            lambda: models.build("universal", widht=3),
            "There is no field of universal's Config called 'widht'. Did you mean 'width'?",
        ),
        (lambda: models.build("universal", width="wide"), "width of universal must be a whole number, "),
        (lambda: models.build("universal", norm="prr"), "norm of universal must be 'pre' or "),
        (lambda: analyses.measure("convergance", "a run"), "There is no analysis called 'convergance'. "),
        (
            lambda: models.load("nowhere.safetensors"),
            "nowhere.safetensors must be a file, but there is none.",
        ),
    ],
)
def test_an_unknown_name_gets_a_sentence_that_leads_to_the_right_one(ask, sentence: str):
    with pytest.raises(LoopscopeError) as error:
        ask()
    assert sentence in str(error.value)


def test_only_what_stands_on_the_shelf_can_be_imported_from_data(tmp_path: Path):
    path = checkpoint(tmp_path / "foreign.safetensors", architecture="..os")
    with pytest.raises(LoopscopeError, match=r"the architecture '\.\.os', which is on no shelf"):
        models.load(path)


def test_weights_that_do_not_fit_their_header_say_which(tmp_path: Path):
    path = checkpoint(tmp_path / "wide.safetensors", config={**SMALL, "width": 32})
    with pytest.raises(
        LoopscopeError,
        match="must fit the configuration of universal .* embed.table.weight must have the shape",
    ):
        models.load(path)


def test_a_header_that_lacks_something_says_what(tmp_path: Path):
    tensors, header = load_file(checkpoint(tmp_path / "whole.safetensors"), kind="checkpoint")
    del header["config"], header["task"]
    save_file(tmp_path / "less.safetensors", tensors, header)
    with pytest.raises(LoopscopeError, match="'config' doesn't fit: field required"):
        models.load(tmp_path / "less.safetensors")


def test_a_copy_is_the_file_itself_and_never_replaces_one(tmp_path: Path):
    copied = models.copy("universal", tmp_path)
    assert copied.read_bytes() == (ROOT / "models" / "universal.py").read_bytes()
    copied.write_text("mine")
    with pytest.raises(LoopscopeError, match=r"universal\.py exists and would be lost"):
        models.copy("universal.py", tmp_path)
    assert copied.read_text() == "mine"


@pytest.mark.parametrize(
    ("shelf_name", "name", "folder", "sentence"),
    [
        ("modles", "universal.py", ".", "There is no shelf called 'modles'. Did you mean 'models'?"),
        ("models", "univrsal.py", ".", "There is no file called 'univrsal.py'. Did you mean 'universal.py'?"),
        (
            "models",
            "../loopscope/common/discovery.py",
            ".",
            "There is no file called '../loopscope/common/discovery.py'.",
        ),
        ("models", "universal.py", "no/such", "no/such must be a folder to copy universal.py into"),
    ],
)
def test_a_copy_that_cannot_be_made_says_why(
    shelf_name: str, name: str, folder: str, sentence: str, tmp_path: Path
):
    with pytest.raises(LoopscopeError) as error:
        discovery.copy(shelf_name, name, folder if folder != "." else tmp_path)
    assert sentence in str(error.value)
