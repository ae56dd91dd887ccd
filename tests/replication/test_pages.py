"""What stands on the pages of a finding is what was measured."""

import json
from pathlib import Path

import pytest

import loopscope as ls
from loopscope.replication import Finding, Interval, Measurement, Paper, Replication
from loopscope.replication.docs_page import docs_page
from loopscope.replication.figures import panels
from loopscope.replication.measurement import measurement_of, value_of
from loopscope.replication.page import replication_page
from loopscope.replication.record import Attempt, Measured, Record, read_record, write_record

SEEDS = [2001, 2002, 2003]
COMMIT = "0123456789" * 4


def finding(**changed) -> Finding:
    text = {"claim": "Loops | loop", "metric": "x", "criterion": "x >= 1"}
    return Finding(number=7, source=Paper("A & B", 2026, "2601.00001"), minutes=1, **text | changed)


def measured(seed: int, x: float, **more) -> Measured:
    return Measured(seed, {"x": [x, x - 0.5, x + 1], "y": None}, date="2026-01-01", **more)


def replication(*values: float, **more) -> Replication:
    some = [measured(seed, x, **more) for seed, x in zip(SEEDS, values, strict=False)]
    return Replication(
        "loops_loop", finding(), lambda n: n["x"] >= 1, Record(7, Attempt(COMMIT, "d", SEEDS, some)), "d"
    )


def test_a_measurement_is_stored_and_read_as_it_was(tmp_path: Path):
    one = measurement_of(
        Measurement({"x": Interval(0.5, 0.25, 1), "y": float("nan"), "z": 2}, {"c": [0, 1]}), "a"
    )
    stored = one.to_json()
    assert stored == {
        "numbers": {"x": [0.5, 0.25, 1.0], "y": None, "z": 2.0},
        "curves": {"c": [0.0, 1.0]},
        "axis": "iterations",
    }
    assert value_of(stored["numbers"]["x"]) == 0.5 and value_of(None) != value_of(None)
    record = Record(7, Attempt(COMMIT, "d", SEEDS, [Measured(SEEDS[0], **stored)]), note="Why.")
    write_record(tmp_path / "results" / "a.json", record)
    assert read_record(tmp_path / "results" / "a.json") == record
    assert read_record(tmp_path / "b.json") is None


@pytest.mark.parametrize("text", ["", "[]", '{"number": 7}', '{"number": "7", "attempt": {}}', "{"])
def test_damaged_results_are_a_sentence(tmp_path: Path, text: str):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ls.LoopscopeError, match=r"a\.json must"):
        read_record(tmp_path / "a.json")


def test_the_figures_are_the_numbers_with_their_intervals_and_the_curves():
    one = replication(1.0, 2.0, 3.0, curves={"c": [0.0, 5.0]})
    along, by_seed = panels(one)
    assert [list(trace.y) for trace in along.figure.data] == [[0.0, 5.0]] * 3
    assert "c ends at 5" in along.observation
    dots, mean = by_seed.figure.data
    assert list(dots.x) == [1.0, 2.0, 3.0] and list(mean.x) == [2.0]
    assert list(dots.error_x.array) == [1.0] * 3 and list(dots.error_x.arrayminus) == [0.5] * 3
    assert [frame.label for frame in by_seed.frames] == ["x", "y"]
    assert "holds in 0 of 3 seeds" in by_seed.observation, "y isn't a number, so nothing passes"
    assert panels(replication()) == []


def test_the_pages_say_status_figures_recipe_and_commit():
    one = replication(1.0, 2.0, 3.0)
    page = docs_page([one])
    row = next(line for line in page.splitlines() if line.startswith("| 7 |"))
    cells = [cell.strip() for cell in row.replace("\\|", "/").strip("|").split("|")]
    assert cells[1:4] == ["Loops / loop", "A & B 2026, arXiv 2601.00001", "does not hold"]
    assert cells[4] == "x: 2 (1, 2, 3)<br>y: unknown (unknown, unknown, unknown)"
    assert cells[5:] == ["1", "`0123456789`, 2026-01-01"]
    assert "| x | 2 | 1 | 2 | 3 |" in page and "- 1 finding: 1 does not hold." in page
    report = replication_page(one)
    assert "Criterion: x &gt;= 1" in report.html and COMMIT in report.html
    assert json.loads(json.dumps(report.data))["status"] == "does not hold"
    assert len(report.panels) == 1


def test_the_page_says_what_was_not_run():
    page = docs_page([replication()])
    assert "not run" in page and "x: " not in page
    assert "does not hold" not in page


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("number", 0, "whole number, 1 or more"), ("number", True, "whole number"), ("claim", " ", "a text")],
)
def test_a_finding_without_its_parts_is_refused(field, value, words):
    arguments = {"claim": "a", "metric": "b", "criterion": "c", "number": 1} | {field: value}
    with pytest.raises(ls.LoopscopeError, match=f"Finding.{field} must be .*{words}"):
        Finding(source=Paper("A", 2026), minutes=1, **arguments)
