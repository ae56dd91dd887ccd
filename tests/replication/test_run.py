"""A finding is run from its commit: drawn once, trained once, resumed where it was stopped."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import loopscope as ls
from loopscope.cli import app
from loopscope.common.finding_shelf import FINDINGS
from loopscope.replication.digest import file_digest
from loopscope.replication.replicate import replicate
from loopscope.replication.seeds import draw
from loopscope.replication.trainings import Trainings
from loopscope.replication.work import Work, measure_seed
from loopscope.training import train

from ..toys import tiny_finding

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A finding that isn't committed yet."""
    return tiny_finding.write(tmp_path / "checkout")


def test_a_run_draws_seeds_trains_measures_and_says_what_it_found(file: Path, tmp_path: Path):
    with pytest.raises(ls.LoopscopeError, match="must be committed before they are drawn"):
        ls.findings.run(file, folder=tmp_path / "runs")
    assert ls.findings.result(file).status.value == "not run"
    commit = tiny_finding.commit(file)
    part = ls.findings.run(file, folder=tmp_path / "runs", seeds=1)
    assert part.status.value == "partly run" and list(part.numbers) == draw(commit, 1)
    whole = ls.findings.run(file, folder=tmp_path / "runs")
    assert list(whole.numbers) == draw(commit, 3) == tiny_finding.calls(file), (
        "the first wasn't measured again"
    )
    assert len({numbers["sum of the weights"] for numbers in whole.numbers.values()}) == 3, "three trainings"
    assert whole.status.value == "holds" and whole.recipes_tried == 1
    assert "Status: holds; 1 recipe tried" in str(whole)
    stored = json.loads((file.parent / "results" / "tiny.json").read_text())
    assert stored["attempt"]["commit"] == commit and stored["attempt"]["seeds"] == draw(commit, 3)
    with pytest.raises(ls.LoopscopeError, match="The seeds of a recipe are drawn once"):
        ls.findings.draw(file)


def test_a_training_that_was_stopped_goes_on_and_gives_the_same_numbers(file: Path, tmp_path: Path):
    tiny_finding.commit(file)
    first = ls.findings.run(file, folder=tmp_path / "runs", seeds=1)
    (seed,) = first.numbers
    trainings = Trainings(FINDINGS.get("tiny").trainings(), seed, tmp_path / "again" / "trainings")
    stopped = tmp_path / "again" / "trainings" / next((tmp_path / "runs" / "trainings").glob("recall-*")).name
    train(trainings.recipe("tiny"), stopped, steps=2, checkpoint_every=1, progress=False)
    again = ls.findings.run(file, folder=tmp_path / "again", seeds=1)
    assert again.numbers == first.numbers
    log = (stopped / "checkpoint.safetensors").stat()
    assert log.st_size and len(list(stopped.parent.glob("recall-*"))) == 1, "it went on in its folder"


def test_a_file_of_ones_own_is_used_by_its_name(file: Path):
    assert ls.use(file) == ["tiny"], "it is no analysis, though it has a measure"
    assert ls.findings.result("tiny").finding.number == 900 and "tiny" not in ls.analyses.names()
    file.write_text(file.read_text().replace("def holds", "def passes"))
    with pytest.raises(ls.LoopscopeError, match=r"tiny\.py has no holds. findings/README.md shows one"):
        ls.findings.result(file)


def test_findings_of_one_commit_share_a_training(file: Path, tmp_path: Path):
    other = tiny_finding.write(file.parent, "other", number=901, scale=2.0)
    tiny_finding.commit(file)
    one, two = (ls.findings.run(each, folder=tmp_path / "runs", seeds=1) for each in (file, other))
    assert list(one.numbers) == list(two.numbers)
    assert two.mean["sum of the weights"] == pytest.approx(2 * one.mean["sum of the weights"], rel=1e-6)
    assert len(list((tmp_path / "runs" / "trainings").glob("recall-*"))) == 1


def test_a_changed_recipe_gets_other_seeds_and_is_counted(file: Path, tmp_path: Path):
    first = tiny_finding.commit(file)
    ls.findings.run(file, folder=tmp_path / "runs", seeds=1)
    tiny_finding.write(file.parent, scale=3.0)
    assert not ls.findings.result(file).is_current
    with pytest.raises(ls.LoopscopeError, match=r"but that has changed since its seeds were drawn \(commit "):
        ls.findings.run(file, folder=tmp_path / "runs")
    second = tiny_finding.commit(file)
    assert ls.findings.draw(file) == draw(second, 3) != draw(first, 3)
    one = ls.findings.result(file)
    assert one.recipes_tried == 2 and one.status.value == "not run"
    assert one.record.earlier[0].commit == first and len(one.record.earlier[0].measured) == 1


def test_a_recipe_that_is_taken_up_again_keeps_its_seeds(file: Path, tmp_path: Path):
    tiny_finding.commit(file)
    first = ls.findings.run(file, folder=tmp_path / "runs", seeds=1)
    tiny_finding.write(file.parent, scale=3.0)
    tiny_finding.commit(file)
    ls.findings.draw(file)
    tiny_finding.write(file.parent)
    tiny_finding.commit(file)
    assert ls.findings.draw(file) == list(first.attempt.seeds)
    again = ls.findings.result(file)
    assert again.numbers == first.numbers and again.recipes_tried == 1, "the other one was never measured"


def test_code_that_was_changed_after_its_import_measures_nothing(file: Path, tmp_path: Path):
    tiny_finding.commit(file)
    attempt = ls.findings.run(file, folder=tmp_path / "runs", seeds=1).attempt
    tiny_finding.write(file.parent, scale=3.0)
    changed = Work("tiny", 7, str(tmp_path / "runs"), digest=attempt.digest)
    with pytest.raises(ls.LoopscopeError, match=r"but .*tiny\.py was changed meanwhile\. Commit the change"):
        measure_seed(changed)
    with pytest.raises(ls.LoopscopeError, match="was changed meanwhile"):
        measure_seed(replace(changed, digest=file_digest(file)))  # drawn again, but the old code is loaded


def test_the_first_three_seeds_decide(file: Path, tmp_path: Path):
    text = file.read_text().replace(">= 0", ">= 1e9 or numbers.get('fine', 0) > 0")
    file.write_text(text)
    tiny_finding.commit(file)
    ls.findings.run(file, folder=tmp_path / "runs", seeds=3)
    results = file.parent / "results" / "tiny.json"
    stored = json.loads(results.read_text())
    assert ls.findings.result(file).status.value == "does not hold"
    measured = stored["attempt"]["measured"]
    stored["attempt"]["seeds"] = draw(stored["attempt"]["commit"], 9)
    for seed in stored["attempt"]["seeds"][3:]:
        measured.append(measured[0] | {"seed": seed, "numbers": {"fine": 1, "sum of the weights": 1}})
    results.write_text(json.dumps(stored))
    assert ls.findings.result(file).status.value == "does not hold"
    del measured[0]  # as one that failed
    results.write_text(json.dumps(stored))
    assert ls.findings.result(file).status.value == "partly run"


@pytest.mark.parametrize("wrong", ["0.7", True, [], [1.0, 2.0], {"b": 1}])
def test_results_with_something_else_than_numbers_are_refused(file: Path, tmp_path: Path, wrong):
    tiny_finding.commit(file)
    ls.findings.run(file, folder=tmp_path / "runs", seeds=1)
    results = file.parent / "results" / "tiny.json"
    stored = json.loads(results.read_text())
    stored["attempt"]["measured"][0]["numbers"]["sum of the weights"] = wrong
    results.write_text(json.dumps(stored))
    with pytest.raises(ls.LoopscopeError, match="must have a number, null or"):
        ls.findings.result(file)


def test_an_error_of_its_own_code_is_a_sentence(file: Path, tmp_path: Path):
    file.write_text(file.read_text().replace("SCALE * float", "SCALE / 0 * float"))
    tiny_finding.commit(file)
    with pytest.raises(
        ls.LoopscopeError, match=r"tiny with seed \d+ must run to its end, but ended with ZeroDiv"
    ):
        ls.findings.run(file, folder=tmp_path / "runs", seeds=1)


def test_the_command_runs_a_file_and_says_what_was_stated_before(file: Path, tmp_path: Path):
    def findings(*command: str):
        return CliRunner().invoke(app, ["findings", *command, str(file)])

    refused = findings("run")
    assert refused.exit_code == 1 and "must be committed before they are drawn" in refused.output
    (seed, *_) = draw(tiny_finding.commit(file), 3)
    options = ("run", "--seeds", "1", "--folder", str(tmp_path / "runs"))
    assert f"tiny, seed {seed}: sum of the weights" in findings(*options).output
    results = file.parent / "results" / "tiny.json"
    stored = json.loads(results.read_text())
    stored["attempt"]["measured"][0]["numbers"]["sum of the weights"] = 5.0
    results.write_text(json.dumps(stored))
    again = findings(*options)
    assert again.exit_code == 0 and "Status: partly run; 1 recipe tried" in again.output
    assert "Stated before:\n  sum of the weights: 5 (5)" in again.output
    noted = CliRunner().invoke(app, ["findings", "note", str(file), "So it is."])
    assert noted.exit_code == 0 and "Note: So it is." in findings("show").output


def test_one_that_cannot_be_run_keeps_no_other_from_running(file: Path, tmp_path: Path):
    tiny_finding.commit(file)
    later = tiny_finding.write(file.parent, "later", number=901)
    names = [ls.findings.name_of(later), ls.findings.name_of(file)]
    ended = list(replicate(names, seeds=1, folder=tmp_path / "runs"))
    assert [work.name for work, _ in ended] == names
    assert "must be committed before they are drawn" in str(ended[0][1])
    assert ls.findings.result(file).numbers and not ls.findings.result(later).numbers


@pytest.mark.slow
def test_workers_give_the_same_numbers(file: Path, tmp_path: Path):
    tiny_finding.commit(file)
    one = ls.findings.run(file, folder=tmp_path / "here")
    shutil.rmtree(file.parent / "results")
    several = ls.findings.run(file, folder=tmp_path / "there", workers=2)
    assert several.numbers == one.numbers and several.status.value == "holds"


@pytest.mark.parametrize("returned", ["{}", "{'x': 'much'}", "3", "{3: 4.0}"])
def test_measure_must_return_numbers_by_name(file: Path, tmp_path: Path, returned: str):
    text = file.read_text()
    file.write_text(
        text[: text.index("    with Path")] + f"    return {returned}\n\n\ndef holds(n):\n    return True\n"
    )
    tiny_finding.commit(file)
    with pytest.raises(ls.LoopscopeError, match="measure of tiny must return numbers by name"):
        ls.findings.run(file, folder=tmp_path / "runs", seeds=1)
