"""What the self-check returns and prints, what it takes, and what it says of what it can't take."""

import json
from importlib.metadata import version

import pytest
import torch

import loopscope as ls
from loopscope.checks import CheckResult, Outcome, Row
from loopscope.checks.check import CHECKS
from loopscope.checks.model_file import model_of_file
from loopscope.shelves import new

from ..toys import foreign_loops as foreign
from ..toys.broken_adapters import Right, small, tokens
from ..toys.public_calls import model


@pytest.fixture(scope="module")
def result() -> CheckResult:
    return ls.check(Right(small()), tokens())


def test_there_is_a_row_for_each_check_in_order(result):
    assert [row.name for row in result.rows] == list(CHECKS)
    assert result.summary() == "Of 11 checks 11 passed."


def test_it_begins_with_what_a_bug_report_needs(result):
    lines = str(result).splitlines()
    assert lines[0].startswith("versions: torch ") and f"loopscope {version('loopscope')}" in lines[0]
    about = {line.partition(":")[0]: line.partition(": ")[2] for line in lines[:8]}
    assert about["class"].endswith("broken_adapters.Small")
    assert about["device"] == "cpu" and about["dtype"] == "float32" and about["mode"] == "evaluation"
    assert about["inputs"] == "(2, 5) of torch.int64, seed 0"


def test_json_has_what_the_table_has(result):
    data = json.loads(result.to_json())
    assert data["passed"] is True and data["about"] == dict(result.about)
    assert [(row["name"], row["outcome"]) for row in data["rows"]] == [
        (row.name, row.outcome.value) for row in result.rows
    ]
    assert all(row["difference"] in (0.0, None) for row in data["rows"] if row["name"] != "padding")


def test_an_infinite_difference_is_none_in_json_and_inf_in_the_table():
    row = Row("output", Outcome.failed, float("inf"), "the outputs differ in shape or type")
    shown = CheckResult({}, (row,))
    assert json.loads(shown.to_json())["rows"][0]["difference"] is None
    assert " inf " in str(shown) and not shown.passed


def test_strings_of_others_stay_text_in_a_notebook():
    row = Row("output", Outcome.failed, None, "<script>alert(1)</script>")
    html = CheckResult({"class": "<b>"}, (row,), ("<i>",))._repr_html_()
    assert "<script>" not in html and "<b>" not in html and "<i>" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize(
    ("outcomes", "passed"),
    [
        ([Outcome.passed, Outcome.not_applicable], True),
        ([Outcome.passed, Outcome.refused], True),
        ([Outcome.passed, Outcome.failed], False),
        ([Outcome.refused, Outcome.not_applicable], False),
        ([Outcome.not_applicable, Outcome.passed], False),
        ([], False),
    ],
)
def test_it_passes_if_the_output_was_compared_and_nothing_failed(outcomes, passed):
    rows = tuple(Row(str(n), outcome, None, "") for n, outcome in enumerate(outcomes))
    assert CheckResult({}, rows).passed is passed


def test_tokens_are_made_where_none_are_passed():
    drawn = ls.check(Right(small()))
    assert drawn.passed and drawn.about["inputs"] == "(2, 6) of torch.int64, seed 0"
    zoo = ls.check(model())
    assert zoo.passed and zoo.row("four functions").reason.endswith("and every state")


def test_a_text_is_read_as_its_tokens_are():
    from ..toys.text_tokenizers import bytes_tokenizer

    model = torch.nn.Sequential(torch.nn.Embedding(300, foreign.WIDTH), foreign.Loop()).eval()
    shown = ls.check(model, "A loop", body="1.core", tokenizer=bytes_tokenizer())
    assert shown.passed and shown.about["inputs"] == "(1, 2) of torch.int64, seed 0"


def test_a_file_of_ones_own_is_checked_at_the_size_of_its_recipe(tmp_path):
    file = new("model", "fresh_net", tmp_path)[0]
    shown = ls.check(str(file))
    assert shown.passed and shown.about["class"].endswith("fresh_net.Model")
    assert shown.about["inputs"] == "(2, 9) of torch.int64, seed 0"
    text = file.read_text()
    file.write_text(text.replace("\n}\n", '\n    "second": Recipe("fresh_net", "hops", 1, Fixed(2)),\n}\n'))
    with pytest.raises(ls.LoopscopeError, match=r"has 2 recipes, .* so one must be named. Write .*\.py:NAME"):
        ls.check(file)
    assert model_of_file(f"{file}:fresh-net-parity", 0).task.length == 8
    file.write_text(text.partition("# By name")[0].replace("vocabulary: int = 12", "vocabulary: int"))
    with pytest.raises(ls.LoopscopeError, match="must say how large its model is, by defaults of Config"):
        ls.check(file)


@pytest.mark.parametrize("halting", ["accumulated", "interpolated"])
def test_a_zoo_model_that_halts_passes(halting):
    built = ls.models.build("universal", vocabulary=3, width=8, heads=2, iterations=4, halting=halting).eval()
    shown = ls.check(built, torch.randint(0, 3, (2, 5)))
    assert shown.passed, str(shown)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: ls.check(3), "check needs a looped model, what ls.wrap returned, or a torch.nn.Module"),
        (
            lambda: ls.check(foreign.Loop(), foreign.batch()),
            "the part of Loop that repeats",
        ),
        (lambda: ls.check(ls.wrap(foreign.Loop(), body="core")), "check needs what Loop reads"),
        (lambda: ls.check(Right(small()), body="block"), "body is for a module that isn't wrapped yet"),
        (
            lambda: ls.check(foreign.Loop(), torch.zeros(2, 3, 5), body="core"),
            "the forward of Loop must run on these inputs to be checked, but raised RuntimeError",
        ),
    ],
)
def test_what_cannot_be_checked_is_said_in_a_sentence(call, text):
    with pytest.raises(ls.LoopscopeError, match=text):
        call()


def test_what_the_caller_has_is_as_before():
    module, x = foreign.build_loop(foreign.Loop), foreign.batch()
    kept, random = x.clone(), torch.get_rng_state()
    ls.check(module, x, body="core")
    assert torch.equal(x, kept) and torch.equal(torch.get_rng_state(), random)
    assert not any(part._forward_hooks or "forward" in vars(part) for part in module.modules())
