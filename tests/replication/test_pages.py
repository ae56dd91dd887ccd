"""What stands on the pages of a finding is what was measured."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import loopscope as ls
from loopscope.replication import Finding, Interval, Measurement, Paper, Replication
from loopscope.replication.docs_page import docs_page
from loopscope.replication.figures import panels
from loopscope.replication.measurement import figure, measurement_of, value_of
from loopscope.replication.page import replication_page
from loopscope.replication.record import Attempt, Measured, Record, read_record, write_record
from loopscope.replication.rule import Status

SEEDS = [2001, 2002, 2003]
COMMIT = "0123456789" * 4
LINK = "[arXiv 2601.00001](https://arxiv.org/abs/2601.00001)"


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
    assert along.observation == "C ends at 5, on average over the seeds."
    *dots, mean = by_seed.figure.data
    assert [list(dot.x) for dot in dots] == [[1.0], [2.0], [3.0]] and list(mean.x) == [2.0]
    assert [(*dot.error_x.array, *dot.error_x.arrayminus) for dot in dots] == [(1.0, 0.5)] * 3
    assert by_seed.figure.layout.xaxis.title.text == "x", "y isn't a number, and has no figure"
    assert "holds in 0 of 3 seeds" in by_seed.observation, "y isn't a number, so nothing passes"
    assert panels(replication()) == []


def test_a_figure_is_of_one_quantity_with_its_variants():
    numbers = {"growth, plain": 3.0, "growth, with a penalty, small": 1.5, "p": 0.1}
    curves = {"norm, plain": [None, 1.0, 2.0], "norm, small": [1.0] * 3, "change": [2.0] * 30}
    some = [Measured(seed, numbers, curves, "iterations") for seed in SEEDS]
    record = Record(7, Attempt(COMMIT, "d", SEEDS, some))
    norm, change, growth, p = panels(Replication("a", finding(curve_start=1), lambda _: True, record, "d"))
    assert (
        norm.figure.layout.yaxis.title.text == "norm" and norm.figure.layout.xaxis.title.text == "iterations"
    )
    lines = norm.figure.data
    assert [line.name for line in lines][:2] == ["plain, seed 2001", "plain, seed 2002"]
    assert len({(line.line.color, line.line.dash) for line in lines}) == 6, "no two look alike"
    assert len({line.line.color for line in change.figure.data}) == 3, "one curve: the colour is the seed's"
    assert list(lines[0].x) == [1, 2, 3], "the first value is after one iteration"
    assert [one.figure.layout.xaxis.dtick for one in (norm, change)] == [1, 5], "whole numbers, few"
    assert norm.observation == "Norm ends at 2 (plain) and 1 (small), on average over the seeds."
    low, high = change.figure.layout.xaxis.range
    assert 0 < low < 1 and 30 < high < 31, "the range is that of the data"
    assert list(growth.figure.layout.yaxis.ticktext) == ["plain", "with a penalty,<br>small"]
    assert [one.figure.layout.xaxis.title.text for one in (growth, p)] == ["growth", "p"]
    assert growth.observation.startswith("Growth is 3 (plain) and 1.50 (with a penalty, small) on average.")


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (128.0, "128"), (0.999964, "1.00"), (1.4, "1.40"), (35.13, "35.1"), (100.4, "100"),
     (4.4e-7, "4.4e-7"), (-0.52, "-0.520"), (1234.5, "1.23e+3"), (float("nan"), "unknown")],
)  # fmt: skip
def test_a_measured_number_has_three_digits_and_a_whole_one_all(value, text):
    assert figure(value) == text


def test_a_finding_says_how_it_was_measured_its_intervals_and_what_it_cost():
    one = replace(
        replication(1.0, 2.0, 3.0, seconds=11.36), description="Loops loop (arXiv\n2601.00001).\n\nK is 3."
    )
    shown, page = str(one), docs_page([one])
    assert "K is 3." in shown and "x: 2 (1 [0.500, 2], 2 [1.50, 3], 3 [2.50, 4])" in shown
    assert "In brackets: 95 % intervals." in shown and "Cost: 11.4 s of processor time" in shown
    assert "Loops loop ([arXiv 2601.00001](https://arxiv.org/abs/2601.00001)).\n\nK is 3." in page
    assert "K is 3." in replication_page(one).html and one.to_dict()["description"] == one.description
    noted = replace(one, record=replace(one.record, note="Why it is so."))
    assert all(
        "Why it is so." in text for text in (str(noted), docs_page([noted]), replication_page(noted).html)
    )
    never = replication()
    assert "Cost: about 1 minute of" in str(never) and "recipe" not in str(never) and "[" not in str(never)
    row = next(line for line in docs_page([never]).splitlines() if line.startswith("| 7 |"))
    assert row.endswith("| not run | - | - | `0123456789`, not run |")


def test_the_head_counts_in_numbers_and_names_late_criteria_and_what_is_absent():
    late = replace(replication(2.0, 2.0, 2.0), finding=finding(fresh_only=True))
    assert "criterion of 7 came after a look" in docs_page([late]).replace("\n", " ")
    assert "(criterion after a look; fresh trainings only)" in docs_page([late])
    assert "came after a look" not in docs_page([replication()])
    page = docs_page([], {12: 12, 42: 29, 41: 21}).replace("\n", " ")
    assert "Of the thirty, 12, 41 and 42 are not on the shelf yet (41 and 42 in place of 21 and 29)." in page
    assert [Status.holds.counted(n) for n in (1, 6)] == ["1 holds", "6 hold"]
    assert [Status.fails.counted(n) for n in (1, 2)] == ["1 does not hold", "2 do not hold"]
    assert Status.not_run.counted(16) == "16 not run"


@pytest.mark.parametrize(
    ("paper", "text"),
    [
        (Paper("", 2026, "2601.00001"), "arXiv 2601.00001 (2026)"),
        (Paper("A", 2026, "2601.00001"), "A 2026, arXiv 2601.00001"),
        (Paper("A", 1985, title="theory"), "A 1985, theory"),
    ],
)
def test_a_source_is_named_by_its_authors_where_they_are_known(paper, text):
    assert str(paper) == text


def test_the_pages_say_status_figures_recipe_and_commit():
    one = replication(1.0, 2.0, 3.0)
    page = docs_page([one])
    row = next(line for line in page.splitlines() if line.startswith("| 7 |"))
    cells = [cell.strip() for cell in row.replace("\\|", "/").strip("|").split("|")]
    assert cells[1:4] == ["Loops / loop", f"A & B 2026, {LINK}", "does not hold"]
    assert cells[4] == "x: 2 (1, 2, 3)<br>y: unknown (unknown, unknown, unknown)"
    assert cells[5:] == ["1", "`0123456789`, 2026-01-01"]
    assert (
        "| x | 2 | 1 [0.500, 2] | 2 [1.50, 3] | 3 [2.50, 4] |" in page
        and "- 1 finding: 1 does not hold." in page
    )
    report = replication_page(one)
    assert "Criterion: x &gt;= 1." in report.html and COMMIT in report.html
    assert json.loads(json.dumps(report.data))["status"] == "does not hold"
    assert len(report.panels) == 1


def test_the_page_says_what_was_not_run():
    page = docs_page([replication()])
    assert "not run" in page and "x: " not in page
    assert "does not hold" not in page


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("number", 0, "whole number, 1 or more"),
        ("number", True, "whole number"),
        ("claim", " ", "a text"),
        ("curve_start", -1, "0 or more"),
    ],
)
def test_a_finding_without_its_parts_is_refused(field, value, words):
    arguments = {"claim": "a", "metric": "b", "criterion": "c", "number": 1} | {field: value}
    with pytest.raises(ls.LoopscopeError, match=f"Finding.{field} must be .*{words}"):
        Finding(source=Paper("A", 2026), minutes=1, **arguments)
