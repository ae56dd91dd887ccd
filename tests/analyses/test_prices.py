"""What an analysis costs is known before it starts, and a budget isn't exceeded."""

import functools
import warnings

import pytest
import torch

import loopscope as ls
from loopscope.common.price import Budget, Price, smaller
from loopscope.patching import patched_forward
from loopscope.recorder.prices import in_passes
from loopscope.reports import spending

from ..toys.counted_steps import counted_steps
from ..toys.family_doubles import OuroConfig, OuroForCausalLM
from ..toys.planted_loops import planted_run

TWICE = 2.0
"""A price is within this factor of what is counted."""
UNLESS_FOUND = {"depth_use"}
"""Analyses that cost less where what they look for isn't there."""
FEW = ["attention", "causes", "locality", "path_independence"]


@functools.cache
def model(width: int = 8, iterations: int = 3, **options):
    task = ls.tasks.prefix_parity(length=8)
    sizes = {"vocabulary": task.vocabulary, "width": width, "heads": 2, "iterations": iterations}
    built = ls.models.build("universal", seed=1, **sizes, **options).eval()
    built.task = task
    return built


def recorded(examples: int = 4, **options) -> ls.Run:
    net = model(**options)
    return ls.record(net, net.task.batch(examples, seed=0).tokens)


def applicable(run: ls.Run) -> list[str]:
    modules = {name: ls.analyses.module(name) for name in ls.analyses.names()}
    return [
        name
        for name, module in modules.items()
        if getattr(module, "SUBJECT", "run") == "run"
        and (not hasattr(module, "applies") or module.applies(run))
    ]


def counted(name: str, run: ls.Run, **options) -> float:
    with counted_steps(run.model) as steps, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ls.analyses.measure(name, run, **options)
    return steps.passes(run)


def assert_price(name: str, make, **options) -> None:
    price, passes = ls.analyses.price(name, make(), **options).passes, counted(name, make(), **options)
    assert passes <= TWICE * price + 0.5, (name, price, passes)
    assert price <= TWICE * passes + 0.5 or name in UNLESS_FOUND, (name, price, passes)


def test_every_analysis_knows_its_price():
    for name in applicable(recorded()):
        assert_price(name, recorded)


@pytest.mark.parametrize("name", FEW)
def test_a_price_grows_with_the_run_as_the_cost_does(name):
    make = functools.partial(recorded, 16, width=16, iterations=3, step_code="none", injection="add")
    assert_price(name, make)


@pytest.mark.slow
def test_every_analysis_knows_its_price_on_a_trained_model():
    net = ls.models.load("universal-prefix-parity")

    def make() -> ls.Run:
        return ls.record(net, net.task.batch(64, seed=0).tokens)

    for name in applicable(make()):
        assert_price(name, make)


def test_what_is_cut_down_costs_less_and_less():
    run = recorded(16)
    for name in applicable(run):
        module = ls.analyses.module(name)
        prices = [ls.analyses.price(name, run, **options).passes for options in smaller(module, {})]
        assert prices == sorted(prices, reverse=True), name
        assert all(price <= ls.analyses.price(name, run).passes for price in prices)


@pytest.mark.parametrize("name", ["causes", "locality"])
def test_where_no_example_is_affordable_the_fewest_are_measured_and_priced(monkeypatch, name):
    monkeypatch.setattr(patched_forward, "WORK", 1)
    run, module = recorded(16), ls.analyses.module(name)
    fewest = ls.analyses.price(name, run, examples=module.MIN_EXAMPLES).passes
    assert (
        0 < ls.analyses.price(name, run).passes == fewest < ls.analyses.price(name, run, examples=16).passes
    )


def test_what_only_reads_a_run_costs_nothing(tmp_path):
    """A module wrapped by its body can't be iterated on, nor a run without its model."""
    run = ls.load_run(recorded(iterations=12).save(tmp_path / "run.safetensors"))
    for name in ("convergence", "cycles", "geometry"):
        assert ls.analyses.price(name, run).passes == 0
        assert "The budget" not in ls.analyses.measure(name, run, budget=1e-3).evidence.how


def test_what_the_run_remembers_costs_nothing_again():
    run = recorded()
    first = ls.analyses.price("cycles", run).passes
    ls.analyses.measure("convergence", run)
    assert ls.analyses.price("cycles", run).passes == pytest.approx(first - in_passes(run, 4 * 64))


@pytest.mark.parametrize("part", [0.6, 0.3])
@pytest.mark.parametrize("name", ["convergence", "attention", "path_independence", "locality"])
def test_a_budget_is_kept_and_what_it_left_out_is_said(name, part):
    run, budget = recorded(24), part * ls.analyses.price(name, recorded(24)).passes
    with counted_steps(run.model) as steps:
        result = ls.analyses.measure(name, run, budget=budget)
    assert steps.passes(run) <= TWICE * budget
    assert "The budget of" in result.evidence.how and "the whole costs" in result.evidence.how


def test_what_no_budget_allows_is_refused_with_its_price_and_one_that_is_enough():
    with pytest.raises(
        ls.LoopscopeError, match=r"convergence of this run costs [0-9.]+ passes at"
    ) as refusal:
        ls.analyses.measure("convergence", recorded(), budget=0.1)
    enough = str(refusal.value).split('budget="')[1].removesuffix('".')
    ls.analyses.measure("convergence", recorded(), budget=enough)


@pytest.mark.parametrize("cost", [1e-3, 0.09, 3.14, 90.5, 90.9, 1234.56])
def test_the_budget_that_is_said_to_be_enough_is_one_whatever_the_price(monkeypatch, cost):
    module = ls.analyses.module("convergence")
    monkeypatch.setattr(module, "price", lambda run, **_: Price(cost))
    with pytest.raises(ls.LoopscopeError) as refusal:
        ls.analyses.measure("convergence", recorded(), budget=cost / 100)
    enough = str(refusal.value).split('budget="')[1].removesuffix('".')
    assert cost <= (Budget.of(enough).passes or 0) <= 1.1 * cost + 0.01


def test_with_budget_enough_and_without_one_the_numbers_are_the_same():
    without = ls.analyses.measure("attention", recorded()).to_dict()
    assert ls.analyses.measure("attention", recorded(), budget=1e9).to_dict() == without
    assert ls.analyses.measure("attention", recorded(), budget="100 h").to_dict() == without


def test_options_of_the_caller_are_not_cut_down():
    result = ls.analyses.measure("attention", recorded(16), examples=12, budget=6)
    assert result.evidence.examples == 8
    assert "allowed the first 8 of 16 examples, for" in result.evidence.how


@pytest.mark.parametrize("name", ["fixed point", "rotation", "divergence"])
@pytest.mark.parametrize("analysis", ["convergence", "path_independence"])
def test_the_verdict_of_a_planted_loop_on_few_examples_is_the_same_or_unclear(name, analysis):
    run = planted_run(name, torch.float64, 0.0)
    whole = ls.analyses.measure(analysis, run).verdict
    price = ls.analyses.price(analysis, planted_run(name, torch.float64, 0.0)).passes
    cut = ls.analyses.measure(analysis, planted_run(name, torch.float64, 0.0), budget=0.6 * price)
    assert "The budget of" in cut.evidence.how
    assert cut.verdict is whole or cut.verdict.name == "unclear"


def test_the_analyses_of_a_page_cost_no_more_than_its_budget_together():
    run, names = recorded(16), ["attention", "convergence", "cycles", "path_independence", "probes"]
    whole = sum(ls.analyses.price(name, run).passes for name in names)
    with counted_steps(run.model) as steps:
        page = ls.report(run, names, budget=0.1 * whole)
    assert steps.passes(run) <= TWICE * 0.1 * whole
    left = {one["part"]: one["why"] for one in page.data["left_out"]}
    assert "a large part of the budget" in left["Accuracy on longer examples"]
    assert f"budget=&#34;{0.1 * whole}&#34;" in page.html
    assert "a pass is one bare forward of the recorded batch" in page.html


def test_an_analysis_that_does_not_fit_is_left_out_with_its_price():
    page = ls.report(recorded(), budget=0.5)
    left = {one["part"]: one["why"] for one in page.data["left_out"]}
    assert "costs" in left["Convergence"] and "passes" in left["Convergence"]
    assert "geometry" in page.data["results"]  # it only reads states


def test_a_large_model_has_a_budget_where_its_page_would_take_long_and_a_small_one_has_none(monkeypatch):
    words = "as the whole page would take longer"
    assert words not in ls.report(recorded(), ["convergence"]).html
    monkeypatch.setattr(spending, "LARGE", 1)
    assert words not in ls.report(recorded(), ["convergence"]).html  # this one takes no ten minutes
    monkeypatch.setattr(spending, "DEFAULT", Budget(None, 1e-6))
    page = ls.report(recorded(), ["convergence"])
    assert words in page.html and "convergence of this run costs" in page.html


def test_a_large_models_run_that_cannot_be_iterated_needs_no_budget(monkeypatch):
    """A generation has no one iteration that could be timed."""
    model = ls.wrap(OuroForCausalLM(OuroConfig(total_ut_steps=3, hidden_size=8)).eval())
    run = ls.generate(model, torch.tensor([[5, 6, 7, 5], [9, 3, 9, 3]]), max_new_tokens=3).run
    monkeypatch.setattr(spending, "LARGE", 1)
    assert ls.analyses.price("causes", run).passes > 0
    assert not spending._takes_long(run, ["causes"])
    assert spending.Spending(run, ["convergence", "stability"], None).budget is None
    with pytest.raises(ls.LoopscopeError, match=r"the tokens of a generation can't be iterated on"):
        ls.analyses.measure("path_independence", run, budget=1)


def test_where_an_analysis_may_refuse_a_run_with_any_budget_that_is_said_with_the_price():
    run = ls.iterate(lambda x: 0.5 * x, torch.ones(4, 3), 8)
    with pytest.raises(ls.LoopscopeError, match=r"passes\". It may refuse the run even then, as its applies"):
        ls.analyses.measure("causes", run, budget=1e-3)


def test_what_saves_nothing_is_not_cut_down_and_no_layers_are_said_in_words():
    without = ls.iterate(lambda x: 0.5 * x, torch.rand(16, 3), 8)
    part = 0.6 * ls.analyses.price("cycles", without).passes
    how = ls.analyses.measure("cycles", without, budget=part).evidence.how
    assert "allowed the first 8 of 16 examples, for" in how
    run = recorded(16)
    ls.analyses.measure("convergence", run)
    layers = ls.analyses.price("cycles", run).passes
    how = ls.analyses.measure("cycles", run, budget=0.01 * layers).evidence.how
    assert "allowed no layers, for" in how
