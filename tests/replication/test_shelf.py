"""Every finding on the shelf: its criterion is the one that was fixed, its seeds are those of its
commit, and docs/findings.md says what its results say."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import loopscope as ls
from loopscope.cli import app
from loopscope.common.finding_shelf import FINDINGS
from loopscope.replication.docs_page import docs_page, shelf_page
from loopscope.replication.seeds import draw
from loopscope.training import Recipe

ROOT = Path(__file__).parents[2]
NAMES = sorted(FINDINGS.ours())


def criteria() -> dict[int, tuple[str, str, str]]:
    """By number: the claim without its source, the metric and the criterion, as they were fixed."""
    text = (ROOT / "findings" / "criteria.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    return {int(number): (claim, metric, criterion) for number, claim, metric, criterion in rows}


@pytest.mark.parametrize("name", NAMES)
def test_claim_metric_and_criterion_are_those_that_were_fixed(name: str):
    finding = FINDINGS.get(name).finding
    claim, metric, criterion = criteria()[finding.number]
    assert finding.criterion == criterion and finding.metric == metric
    assert claim.startswith(finding.claim.removesuffix("."))
    if finding.source.arxiv:
        assert finding.source.arxiv in claim
        assert re.fullmatch(r"\d{4}\.\d{5}", finding.source.arxiv)
    assert str(finding.source) and finding.source.year > 1900


@pytest.mark.parametrize("name", NAMES)
def test_trainings_are_recipes_and_differ(name: str):
    recipes = getattr(FINDINGS.get(name), "trainings", dict)()
    assert all(isinstance(recipe, Recipe) for recipe in recipes.values())
    assert len({str(recipe.to_json()) for recipe in recipes.values()}) == len(recipes)


@pytest.mark.parametrize("name", NAMES)
def test_stored_seeds_are_those_of_the_commit(name: str):
    one = ls.findings.result(name)
    attempts = [] if one.record is None else [one.record.attempt, *one.record.earlier]
    for attempt in attempts:
        assert re.fullmatch("[0-9a-f]{40}", attempt.commit)
        assert attempt.seeds == draw(attempt.commit, len(attempt.seeds))
        assert {m.seed for m in attempt.measured} <= set(attempt.seeds)
    if one.record is not None:
        assert one.record.number == one.finding.number
        assert one.is_current, "its file has changed since its seeds were drawn: run it again"


@pytest.mark.parametrize("name", NAMES)
def test_the_criterion_reads_numbers_that_are_there(name: str):
    one = ls.findings.result(name)
    for numbers in one.numbers.values():
        assert one.criterion(numbers) in (True, False)  # no KeyError


def test_numbers_are_unique_and_every_one_has_a_criterion():
    numbers = [FINDINGS.get(name).finding.number for name in NAMES]
    assert len(set(numbers)) == len(numbers) and set(numbers) <= set(criteria())
    assert list(ls.findings.numbers()) == sorted(numbers)


def test_findings_whose_criterion_came_after_a_look_count_on_fresh_trainings_only():
    late = {13, 24, 27, 38, 41, 42}
    for name in NAMES:
        finding = FINDINGS.get(name).finding
        assert finding.fresh_only == (finding.number in late)


def test_the_page_in_docs_is_what_the_results_say():
    assert (ROOT / "docs" / "findings.md").read_text(encoding="utf-8") == shelf_page()
    assert "| 900 |" not in docs_page([])


def test_a_finding_is_named_by_its_number_or_its_name():
    name = ls.findings.numbers()[19]
    assert [ls.findings.name_of(which) for which in (19, "19", name)] == [name] * 3
    with pytest.raises(ls.LoopscopeError, match="There is no finding of the number 99. The numbers are 1, "):
        ls.findings.name_of(99)
    with pytest.raises(ls.LoopscopeError, match=f"no finding called '{name}s'. Did you mean '{name}'"):
        ls.findings.result(f"{name}s")


def test_the_commands_list_and_show_every_finding(tmp_path: Path):
    runner = CliRunner(env={"COLUMNS": "80"})
    listed = runner.invoke(app, ["findings"]).output.splitlines()
    rows = [line.split() for line in listed if line.split()[:1] and line.split()[0].isdecimal()]
    assert [int(row[0]) for row in rows] == list(ls.findings.numbers()), "a line for each"
    assert max(map(len, listed)) <= 80 and any("…" in line for line in listed)
    assert all(str(one.status) in " ".join(row) for one, row in zip(ls.findings.results(), rows, strict=True))
    page = tmp_path / "page.html"
    shown = runner.invoke(app, ["findings", "show", "19", "--page", str(page)])
    assert shown.exit_code == 0 and "Criterion: exact 2 and K" in shown.output
    assert "Criterion: exact 2 and K" in page.read_text(encoding="utf-8")
    assert runner.invoke(app, ["findings", "show", "99"]).exit_code == 2
