"""The commands: what they print, and that bad input gets its sentence and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import loopscope as ls
from loopscope.cli import app
from loopscope.common.files import save_file
from loopscope.shelves import new

from .toys.small_models import hrm_text_folder

HEAVY = ["torch", "plotly", "transformer_lens"]
HELP = """
from typer.testing import CliRunner
from loopscope.cli import app
shown = CliRunner().invoke(app, ["--help"])
assert shown.exit_code == 0 and "measure" in shown.output
"""
SMALL = {"vocabulary": 3, "width": 16, "heads": 2, "iterations": 3}


def command(*words: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [*map(str, words)])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    header = {
        "kind": "checkpoint",
        "entry": "mine",
        "architecture": "universal",
        "config": SMALL,
        "task": {"name": "prefix-parity", "options": {"length": 6}},
    }
    return save_file(
        tmp_path / "mine.safetensors", ls.models.build("universal", **SMALL).state_dict(), header
    )


def test_without_a_command_the_commands_are_listed():
    assert all(name in command().output for name in ("models", "train", "measure", "report", "copy"))


@pytest.mark.parametrize("columns", ["40", "200"])
def test_models_shows_every_entry_with_what_its_file_says(columns: str):
    listed = CliRunner(env={"COLUMNS": columns}).invoke(app, ["models"])
    assert listed.exit_code == 0
    for entry in ls.models.entries():
        row = next(line for line in listed.output.splitlines() if f" {entry} " in line)
        assert f"{sum(p.numel() for p in ls.models.load(entry).parameters()):,}" in row
        assert ls.models.header(entry)["task"]["name"] in row
    assert command("models", "--names").output.split() == ls.models.entries()


@pytest.mark.parametrize("analysis", sorted({"convergence"} & set(ls.analyses.names())))
def test_measure_prints_the_finding_as_text_or_as_json(analysis: str, checkpoint: Path):
    asked = ("measure", analysis, checkpoint, "--examples", 4, "--iterations", 8)
    text, data = command(*asked), command(*asked, "--json")
    assert (text.exit_code, data.exit_code) == (0, 0)
    result = json.loads(data.output)
    assert result["analysis"] == analysis
    assert text.output.strip() == result["summary"].strip()


@pytest.mark.parametrize("analysis", sorted({"convergence"} & set(ls.analyses.names())))
def test_measure_takes_a_saved_run(analysis: str, checkpoint: Path, tmp_path: Path):
    model = ls.models.load(checkpoint)
    saved = ls.record(model, model.task.batch(4, seed=0).tokens, 8).save(tmp_path / "run.safetensors")
    result = command("measure", analysis, saved, "--json")
    assert json.loads(result.output)["analysis"] == analysis
    scheduled = command("measure", analysis, saved, "--json", "--scheduler", "threads")
    assert scheduled.output == result.output
    nobody = command("measure", analysis, saved, "--scheduler", "nobody")
    assert (nobody.exit_code, "scheduler must be" in nobody.stderr) == (2, True)
    again = command("measure", analysis, saved, "--iterations", 9)
    assert (again.exit_code, "is recorded already" in again.stderr) == (2, True)


def test_copy_writes_the_file(tmp_path: Path):
    assert command("copy", "models/universal.py", tmp_path).exit_code == 0
    assert (tmp_path / "universal.py").is_file()


@pytest.mark.parametrize("name", ["analyses/cycles", "analyses/cycles/"])
def test_copy_writes_the_folder_of_an_analysis(name: str, tmp_path: Path):
    assert command("copy", name, tmp_path).exit_code == 0
    assert {"__init__.py", "measure.py", "figures.py"} <= {p.name for p in (tmp_path / "cycles").iterdir()}


@pytest.mark.parametrize("code", ["import loopscope", HELP])
def test_the_help_and_the_root_import_nothing_heavy(code: str):
    """In a fresh interpreter, since this one has it all."""
    check = f"import json, sys; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{check}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("card", "nix"), "There is no entry called 'nix'."),
        (("measure", "convergance", "nix"), "There is no analysis called 'convergance'."),
        (("copy", "universal.py"), "The file must be named with its shelf, but is 'universal.py'."),
        (("copy", "modles/universal.py"), "There is no shelf called 'modles'. Did you mean 'models'?"),
        (
            ("copy", "models/univrsal.py"),
            "There is no file called 'univrsal.py'. Did you mean 'universal.py'?",
        ),
        (("copy", "models/universal.py", "no/such"), "no/such must be a folder to copy universal.py into"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(words: tuple[str, ...], sentence: str):
    refused = command(*words)
    assert refused.exit_code == 2
    assert refused.stderr.startswith(sentence)
    assert "Traceback" not in refused.output
    assert refused.stdout == ""


def test_a_name_cannot_give_the_terminal_orders():
    assert "'[bold]nix[/bold]'" in command("card", "[bold]nix[/bold]").stderr


def test_a_file_that_is_neither_run_nor_checkpoint_says_so(tmp_path: Path):
    (tmp_path / "noise.safetensors").write_bytes(b"noise")
    if ls.analyses.names():
        refused = command("measure", ls.analyses.names()[0], tmp_path / "noise.safetensors")
        assert "must be a whole safetensors file" in refused.stderr


def test_check_prints_a_row_for_each_check_and_its_exit_code_says_whether_all_passed(checkpoint: Path):
    text, data = command("check", checkpoint), command("check", checkpoint, "--json")
    assert (text.exit_code, data.exit_code) == (0, 0)
    result = json.loads(data.output)
    assert result["passed"] and text.output.startswith("versions: torch")
    assert all(row["name"] in text.output for row in result["rows"])
    assert text.output.rstrip().endswith(result["summary"])


def test_check_takes_a_folder_with_its_texts_or_the_part_that_repeats():
    texts = command("check", hrm_text_folder(), "--text", "w1 w2 w3", "--text", "w4 w5", "--json")
    assert texts.exit_code == 0
    about = json.loads(texts.output[texts.output.index("{") :])["about"]
    assert (
        about["inputs"] == "(2, 3) of torch.int64, attention_mask, seed 0"
        and "transformers" in about["versions"]
    )
    body = command("check", hrm_text_folder(), "--body", "model.embed_tokens", "--json")
    assert body.exit_code == 1, "a lookup of tokens receives no state"
    row = json.loads(body.output[body.output.index("{") :])["rows"][0]
    assert row["outcome"] == "refused" and "must receive a floating-point tensor" in row["reason"]


@pytest.mark.parametrize("option", ["--text", "--body"])
def test_check_refuses_what_has_no_effect_on_an_entry(option: str):
    refused = command("check", "recall-plain", option, "core")
    assert refused.exit_code == 2
    assert f"{option} is for a Hugging Face model, which recall-plain isn't" in refused.stderr


def test_check_takes_a_file_of_ones_own(tmp_path: Path):
    file = new("model", "own_loop", tmp_path)[0]
    result = command("check", file, "--json")
    assert result.exit_code == 0 and json.loads(result.output)["passed"]
