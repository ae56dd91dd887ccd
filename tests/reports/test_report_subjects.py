"""Reports of anything: the same numbers from an entry, a run and a saved run; lists are compared;
what can't be reported on gets its sentence before anything runs."""

import json
import math
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import loopscope as ls
from loopscope.cli import app
from loopscope.common import discovery
from loopscope.common.files import save_file
from loopscope.common.to_json import rounded
from loopscope.reports import subjects
from loopscope.reports.section_numbers import unclear_names

from ..toys import hostile_strings
from ..toys.public_calls import model, run

ENTRY = "recall-plain"
ASKED = ["geometry"]
"""Needs the recorded states alone, and is quick."""


@pytest.fixture(scope="module")
def recorded() -> ls.Run:
    """A run of an entry of the zoo."""
    entry = ls.models.load(ENTRY)
    return ls.record(entry, entry.task.batch(8, seed=0).tokens, 4)


@pytest.fixture(scope="module")
def page(recorded: ls.Run) -> Any:
    return ls.report(recorded, ASKED)


def numbers_in(value: Any) -> list[float]:
    """Every number in a piece of JSON, without those in texts."""
    if isinstance(value, dict):
        return [n for inner in value.values() for n in numbers_in(inner)]
    if isinstance(value, list):
        return [n for inner in value for n in numbers_in(inner)]
    return [float(value)] if isinstance(value, int | float) else []


def quoted(text: str) -> list[tuple[float, float]]:
    """The numbers in a text, each with half a unit of its last digit."""
    result = []
    for digits, percent in re.findall(r"(?<![\w.])(\d+(?:\.\d+)?)( %)?", text.replace(",", "")):
        scale = 100 if percent else 1
        places = len(digits.partition(".")[2])
        result.append((float(digits) / scale, 0.51 * 10.0**-places / scale))
    return result


def test_every_number_that_accuracy_quotes_is_in_the_data():
    """Those of the section and of its curves' names, the 95 % of intervals, and counts."""
    report = ls.report(run(), [])
    section = report.data["sections"]["accuracy"]
    curves = [section["score"], section["whole"], *section["longer"], *section["by_difficulty"]]
    numbers = numbers_in(section) + [n for one in curves for n, _ in quoted(one["name"])]
    numbers += [0.95, *(float(k) for k in range(97))]  # numbers of iterations, the places in the lists
    texts = [f"{tile['value']} {tile['caption']}" for tile in report.data["tiles"]]
    texts += [panel.observation for name, panel in report.panels if name == "accuracy"]
    assert texts
    for text in texts:
        for number, width in quoted(text):
            assert any(math.isclose(number, n, abs_tol=width) for n in numbers), (number, text)
    for tile in report.data["tiles"]:
        name, k = re.findall(r"^(.*) after (\d+) iteration", tile["caption"])[0]
        curve = next(one for one in curves if one["name"] == name.removeprefix("answers correct at "))
        ((share, width),) = quoted(tile["value"])
        assert math.isclose(curve["band"]["value"][int(k)], share, abs_tol=width)


def test_the_data_has_what_every_analysis_measured(page: Any, recorded: ls.Run):
    expected = ls.analyses.measure("geometry", recorded).to_dict()
    assert page.data["results"] == {"geometry": rounded(json.loads(json.dumps(expected)), 7)}
    assert page.data["origin"]["entry"] == ENTRY
    assert page.data["subject"] == {"name": ENTRY, "kind": "run"}
    assert {"torch", "loopscope"} <= set(page.data["versions"])


def test_the_json_is_next_to_the_page_and_has_no_nan(tmp_path: Path, page: Any):
    page.save(tmp_path / "page.html")

    def refuse(word: str) -> None:
        raise AssertionError(word)

    text = (tmp_path / "page.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse) == json.loads(json.dumps(page.data))
    page.save(tmp_path / "alone.html", json=False)
    assert not (tmp_path / "alone.json").exists()
    with pytest.raises(ls.LoopscopeError, match="End its name in .html"):
        page.save(tmp_path / "page.json")


def test_an_entry_its_run_and_its_saved_run_have_the_same_results(
    tmp_path: Path, page: Any, recorded: ls.Run
):
    saved = recorded.save(tmp_path / "run.safetensors")
    pages = {
        "entry": ls.report(ENTRY, ASKED, iterations=4, examples=8),
        "run": page,
        "saved run": ls.report(saved, ASKED),
    }
    assert {kind: one.data["subject"]["kind"] for kind, one in pages.items()} == {
        kind: kind for kind in pages
    }
    for one in pages.values():
        assert one.data["results"] == page.data["results"]
        assert one.data["sections"] == page.data["sections"]


def test_the_options_reach_the_recording():
    page = ls.report(ENTRY, [], iterations=3, examples=5, seed=7)
    assert page.data["iterations"] == 3
    assert "--iterations 3 --examples 5 --seed 7" in page.html
    assert "model.task.batch(5, seed=7), 3 iterations" in page.html


def test_a_list_is_compared_in_one_table(recorded: ls.Run):
    page = ls.report([recorded, run()], ASKED)
    table = page.data["comparison"]
    assert table["header"] == ["", ENTRY, "Universal"]
    title = discovery.module("analyses", "geometry").TITLE
    verdicts = next(row for row in table["rows"] if row[0] == title)
    singles = [ls.analyses.measure("geometry", one) for one in (recorded, run())]
    lines = [unclear_names(one) if one.verdict.name == "unclear" else one.sentence for one in singles]
    assert verdicts[1:] == lines
    for quantity in singles[0].evidence.estimates:
        assert any(quantity.name in row[0] and row[1] == quantity.text for row in table["rows"])
    assert [one["subject"]["name"] for one in page.data["subjects"]] == [ENTRY, "Universal"]
    names = [name for name, _ in page.panels]
    assert {"geometry-1", "geometry-2"} <= set(names)
    assert ls.report([run()], []).data["subject"]["kind"] == "run"
    again = ls.report([run(), run()], []).data["comparison"]["header"]
    assert again == ["", "Universal (1)", "Universal (2)"]


def test_a_training_has_its_curves_and_its_final_model():
    history = ls.load_history("grokking-modular")
    page = ls.report(history, ["grokking", "geometry"], iterations=2, examples=4)
    assert page.data["subject"] == {"name": "grokking-modular", "kind": "training"}
    assert set(page.data["results"]) == {"grokking", "geometry"}
    training = page.data["sections"]["training"]
    assert training["steps"] == history.steps
    assert training["accuracy"]["test"] == rounded(history.accuracy("test").tolist(), 7)
    assert page.data["iterations"] == 2


def test_a_training_that_kept_no_history_is_its_final_weights(tmp_path: Path):
    header = {
        "kind": "checkpoint",
        "entry": "mine",
        "architecture": "universal",
        "config": vars(model().config),
        "task": {"name": "prefix-parity", "options": {"length": 8}},
    }
    save_file(tmp_path / "mine.safetensors", model().state_dict(), header)
    page = ls.report(tmp_path, ASKED, iterations=4, examples=4)
    assert page.data["subject"] == {"name": "mine", "kind": "training"}
    assert page.title == "mine"


def test_without_a_model_it_is_said_what_is_left_out_and_why(tmp_path: Path):
    page = ls.report(run().save(tmp_path / "run.safetensors"))
    reasons = {one["part"]: one["why"] for one in page.data["left_out"]}
    assert "knows no model" in reasons["Accuracy"]
    assert {"Accuracy", "Answers"} <= set(reasons)
    assert set(page.data["results"]) >= {"convergence", "geometry"}
    folded = page.html[page.html.index('id="left-out"') :]
    assert "<details>" in folded
    assert "Not measured" not in page.html


def test_what_cannot_be_reported_on_gets_a_sentence_before_anything_runs(
    tmp_path: Path, recorded: ls.Run, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("something was recorded")

    monkeypatch.setattr(subjects, "named_run", fail)
    history = ls.load_history("grokking-modular")
    probes = save_file(tmp_path / "probes.safetensors", {}, {"kind": "probes"})
    cases: list[tuple[Any, dict[str, Any], str]] = [
        ("recall-plane", {}, "Did you mean 'recall-plain'"),
        (tmp_path, {}, "must be that of a training"),
        (probes, {}, "must hold a run, but holds a 'probes'"),
        ([], {}, "the list is empty"),
        ([recorded, history], {}, "a History is a training"),
        ([ENTRY, "nothing"], {}, "'nothing' is none of them"),
        (recorded, {"iterations": 3}, "is recorded already, so iterations=3 has no effect"),
        (recorded, {"seed": 3}, "seed=3 has no effect"),
        (ENTRY, {"texts": ["a"]}, "needs the tokenizer"),
        (ENTRY, {"analyses": ["geometri"]}, "There is no analysis called 'geometri'"),
        (3, {}, "report: subject must be"),
    ]
    for subject, options, sentence in cases:
        with pytest.raises(ls.LoopscopeError, match=re.escape(sentence)):
            ls.report(subject, **options)


def test_progress_names_every_analysis(monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []

    @contextmanager
    def listener(what: str, total: int, visible: bool | None, *, begun: int) -> Any:
        yield said.append
        assert len(said) + begun + 1 == total

    monkeypatch.setattr(sys.modules["loopscope.reports.report"], "progress_bar", listener)
    ls.report(run(), ["geometry", "halting"])
    assert said[-2:] == ["geometry", "halting"]


def test_from_a_cdn_the_page_is_small_and_allows_that_address_only():
    html = ls.report(run(), [], cdn=True).html
    assert len(html) < 1e6
    policy = re.search(r'Content-Security-Policy" content="([^"]*)', html)
    assert policy is not None
    assert re.search(r"script-src https://cdn\.plot\.ly/plotly-[\d.]+min\.js &#39;sha256-", policy[1])
    assert re.search(r'<script src="https://cdn\.plot\.ly/\S+" integrity="sha256-\S+" crossorigin', html)


def test_in_a_notebook_it_is_a_title_and_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    page = ls.report(hostile_strings.run(), [])
    assert "<script>alert" not in page._repr_html_()
    assert ".open()" in page._repr_html_()
    page.save(Path("a b.html"))
    assert '<a href="a%20b.html"' in page._repr_html_()


def test_the_command_takes_several_names_and_chosen_analyses(tmp_path: Path, recorded: ls.Run):
    saved = str(recorded.save(tmp_path / "run.safetensors"))
    out = tmp_path / "page.html"
    words = ["report", saved, saved, "--analyses", "geometry", "-o", str(out)]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stderr) == (0, "")
    data = json.loads((tmp_path / "page.json").read_text(encoding="utf-8"))
    assert [set(one["results"]) for one in data["subjects"]] == [{"geometry"}] * 2
    alone = CliRunner().invoke(
        app, [*words[:2], "--analyses", "geometry", "--no-json", "-o", f"{tmp_path}/b.html"]
    )
    assert (alone.exit_code, (tmp_path / "b.json").exists()) == (0, False)
    refused = CliRunner().invoke(app, ["report", saved, "--iterations", "9"])
    assert (refused.exit_code, "is recorded already" in refused.stderr) == (2, True)
