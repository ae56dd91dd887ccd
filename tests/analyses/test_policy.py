"""Early-exit policy on answers that are right or wrong by construction, and on runs of real
halting."""

import dataclasses
import math

import pytest
import torch

import loopscope as ls
from loopscope.analyses.policy.comparison import (  # pyright: ignore[reportMissingImports]
    Comparison,
    Stops,
    choose,
    compare,
    fewest_iterations,
)
from loopscope.analyses.policy.verdict import (  # pyright: ignore[reportMissingImports]
    ALLOWED,
    PolicyVerdict,
    decide,
    verdict_on,
)
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError
from loopscope.common.text import percent
from loopscope.halting.metrics import stop_iterations

from ..toys.table_loop import planted
from .test_halting import TASK, halting_model

N, BATCH = 10, 48


def by_difficulty(sure=4.0):
    """Answer p is wrong for p iterations and then right for ever."""
    batch = TASK.batch(BATCH, seed=0)
    k = torch.arange(N + 1)[:, None, None]
    right = (k >= torch.arange(9)).expand(N + 1, BATCH, 9)
    return planted(right, TASK, batch, sure, turning=True)


def test_answers_that_form_one_after_the_other_are_worth_a_rule():
    result = ls.analyses.measure("policy", by_difficulty())
    assert result.full == 1
    depth, latent = result.method("depth"), result.method("latent")
    assert depth.iterations == 8, "position 8 is right after eight"
    # a position must be right, and then be seen to move no more
    assert latent.iterations < depth.iterations and latent.accuracy >= 0.99
    assert result.verdict.name == "rule"
    # the oracle stops position p after max(p, 1); 0.99 of the answers may leave out none of 8
    # positions
    assert result.method("depth").oracle_iterations == pytest.approx(sum(range(1, 9)) / 8)
    assert all(
        method.curve.accuracy.max() <= 1 and (method.curve_regret >= -1e-9).all() for method in result.methods
    )


def test_the_oracle_is_above_every_curve_of_a_real_run():
    run = ls.record(halting_model(bias=-3.0, gate=4.0), TASK.batch(32, seed=0).tokens, 24)
    result = ls.analyses.measure("policy", run)
    assert [method.name for method in result.methods][:2] == ["depth", "model"]
    for method in result.methods:
        assert (method.curve_regret >= -1e-9).all(), method.name
        assert method.regret >= -1e-9 and method.oracle_iterations <= method.iterations + 1e-9


def test_what_is_right_at_once_leaves_nothing_to_decide():
    batch = TASK.batch(BATCH, seed=0)
    right = torch.ones(N + 1, BATCH, 9, dtype=torch.bool)
    result = ls.analyses.measure("policy", planted(right, TASK, batch))
    assert result.verdict.name == "instant" and result.method("depth").iterations == 1


def test_answers_that_all_form_at_the_same_time_need_no_rule():
    batch = TASK.batch(BATCH, seed=0)
    right = (torch.arange(N + 1) >= 6)[:, None, None].expand(N + 1, BATCH, 9)
    result = ls.analyses.measure("policy", planted(right, TASK, batch))
    assert result.verdict.name == "fixed" and result.method("depth").iterations == 6
    assert result.method("latent").underthinking == 0


def test_stopping_too_early_and_too_late_are_told_apart():
    batch = TASK.batch(BATCH, seed=0)
    k = torch.arange(N + 1)[:, None, None]
    right = ((k >= 3) & ((k < 7) | (torch.arange(9) > 2))).expand(N + 1, BATCH, 9)
    result = ls.analyses.measure("policy", planted(right, TASK, batch))
    assert result.full == pytest.approx(6 / 8), "positions 1 and 2 are right for a while only"
    never = [method for method in result.methods if method.iterations == N]
    assert all(method.overthinking == pytest.approx(2 / 8) for method in never)


def test_the_confidence_of_planted_answers_is_what_it_says():
    result = ls.analyses.measure("policy", by_difficulty(sure=4.0))
    confidence = 1 / (1 + (TASK.vocabulary - 1) * torch.e**-4)
    method = result.method("latent")
    assert method.calibration.error == pytest.approx(abs(method.accuracy - confidence), abs=1e-6)


def test_rules_that_see_the_same_agree():
    result = ls.analyses.measure("policy", by_difficulty())
    names = [method.name for method in result.methods[1:]]
    assert result.agreement[names.index("latent"), names.index("cosine")] == pytest.approx(1)
    assert torch.allclose(result.agreement, result.agreement.T, equal_nan=True)


def test_it_draws_itself_and_says_its_thresholds():
    result = ls.analyses.measure("policy", by_difficulty())
    panels = discovery.module("analyses", "policy").panels(result)
    assert len(panels) == 5 and panels[0].figure.data[0].name == "oracle"
    assert "0.05 of the iterations" in str(result) and "within 0.01" in str(result)
    assert "Answers correct (of the run's 48 examples, after 10 iterations): 100 % of 384." in str(result)
    assert '"verdict"' in result.to_json()
    table = panels[1].figure.data[0]
    assert table.type == "table" and list(table.cells["values"][0])[1:] == [
        m.name for m in result.methods[1:]
    ]
    assert all(table.cells["values"][1]), "what each rule reads is said"


NAN = math.nan


@pytest.mark.parametrize(
    ("at_once", "rule", "model", "over_model", "expected"),
    [
        (-0.5, 0.3, NAN, NAN, "rule"),
        (-0.5, 0.04, NAN, NAN, "fixed"),
        (-0.5, 0.04, 0.04, 0.2, "fixed"),
        (-0.5, 0.3, 0.2, 0.1, "reading"),
        (-0.5, 0.3, 0.3, 0.02, "gate"),
        (-0.5, -1.0, 0.3, -2.0, "gate"),
        (-0.009, 0.3, 0.3, 0.02, "instant"),
        (NAN, 0.3, 0.3, 0.02, "unclear"),
        (-0.5, NAN, NAN, NAN, "unclear"),
    ],
)
def test_every_verdict_is_reached_and_what_is_unknown_is_unclear(at_once, rule, model, over_model, expected):
    result = verdict_on(Comparison(at_once, rule, model, over_model, ("kl", "kl"), (1.0, 1.0), (1.0, 1.0)))
    assert result.name == expected and expected in PolicyVerdict.__members__


def compared(depth, rules, model, items, margin):
    """The comparison of all examples."""
    return compare(
        depth, rules, model, items, torch.arange(len(items)), margin=margin,
        rule_choice=choose(depth, rules, items, margin=margin),
        model_choice=None if model is None else choose(depth, {"model": model}, items, margin=margin),
    )  # fmt: skip


def test_savings_are_counted_at_equal_accuracy_and_each_half_uses_what_the_other_chose():
    items, k = torch.ones(40).double(), torch.arange(1, 9.0).double()[:, None]
    hard = torch.arange(40) % 4 < 2  # in both halves: these need six iterations, the others two
    need = torch.where(hard, 6.0, 2.0).double()
    depth = Stops(k.expand(8, 40).clone(), (k >= need).double())
    perfect = Stops(torch.stack([need, torch.full((40,), 8.0).double()]), torch.ones(2, 40).double())
    result = compared(depth, {"perfect": perfect}, depth, items, 0.01)
    assert result.rule == (4, 1) and result.rules == ("perfect", "perfect")
    # depth reaches 0.99 of the answers with 5.92: 2 for two in a hundred, 6 for the others
    assert result.rule_over_depth == pytest.approx(1 - 4 / 5.92)
    assert result.model == (6, 1) and result.model_over_depth == pytest.approx(1 - 6 / 5.92)
    half = Stops(torch.full((1, 40), 2.0).double(), (need == 2).double()[None])
    result = compared(depth, {"half": half}, None, items, 0.6)
    assert result.rule == (2, 0.5)


def test_a_method_is_judged_on_the_half_that_did_not_choose_it():
    """Each of two rules is right after one iteration on its half alone, and never on the other."""
    items, first = torch.ones(40).double(), torch.arange(40) % 2 == 0
    depth = Stops(torch.arange(1, 9.0).double()[:, None].expand(8, 40).clone(), torch.ones(8, 40).double())
    rules = {
        name: Stops(torch.ones(1, 40).double(), right.double()[None])
        for name, right in (("first", first), ("second", ~first))
    }
    result = compared(depth, rules, None, items, 0.01)
    assert result.rules == ("first", "second") and result.rule == (1, 0)


def test_the_fewest_iterations_are_those_of_the_concave_hull():
    cost, accuracy = torch.arange(1, 6).double(), torch.tensor([0.2, 0.2, 0.3, 0.3, 1.0]).double()
    assert fewest_iterations(cost, accuracy, 0.6) == pytest.approx(3), "half stop at 1, half at 5"
    assert fewest_iterations(cost, accuracy, 0.2) == 1 and fewest_iterations(cost, accuracy, 0.1) == 1
    assert fewest_iterations(cost, accuracy, 1.0) == 5 and fewest_iterations(cost, accuracy, 1.1) == 5
    # In any order, and a point under the hull changes nothing.
    order = torch.tensor([4, 0, 3, 1, 2])
    assert fewest_iterations(cost[order], accuracy[order], 0.6) == pytest.approx(3)


def random_rules(kind: str, right: torch.Tensor, generator: torch.Generator) -> dict[str, Stops]:
    """Rules that know nothing of the answers: by their kind, each stops an answer when a coin says
    so, or a random share of the answers at once and the rest never."""
    n, count = right.shape
    rules = {}
    for i in range(18):
        if kind == "coin":
            score = torch.rand(n, count, generator=generator)
            stop = torch.stack([stop_iterations(score, x) for x in torch.linspace(0, 1, 20).tolist()])
        else:
            luck = torch.rand(count, generator=generator)
            stop = torch.stack([torch.where(luck < x, 0, n - 1) for x in torch.linspace(0, 1, 20).tolist()])
        rules[str(i)] = Stops(stop.double() + 1, right.gather(0, stop).double())
    return rules


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "power"), [("coin", 0.25), ("some at once", 4.0)])
def test_a_rule_that_was_chosen_by_luck_saves_nothing_on_other_examples(kind, power):
    n, count, trials = 8, 64, 25
    chance = 0.3 + 0.6 * (torch.arange(n) / (n - 1)) ** power
    names = []
    for seed in range(trials):
        generator = torch.Generator().manual_seed(seed)
        right = torch.rand(n, count, generator=generator) < chance[:, None]
        rules = random_rules(kind, right, generator)
        names.append(decide(rules, right, torch.arange(count))[1].name)
    assert names.count("rule") <= 0.05 * trials, names


def test_few_examples_give_no_verdict():
    batch = TASK.batch(8, seed=0)
    right = (torch.arange(N + 1) >= 6)[:, None, None].expand(N + 1, 8, 9)
    result = ls.analyses.measure("policy", planted(right, TASK, batch))
    assert result.verdict.name == "unclear" and "too few" in result.sentence
    assert discovery.module("analyses", "policy").panels(result)


def test_a_run_without_known_answers_gets_a_sentence():
    run = by_difficulty()
    run.model.task = None
    run.origin["task"] = None
    assert not discovery.module("analyses", "policy").applies(run)
    with pytest.raises(
        LoopscopeError, match="policy needs a run of 3 iterations or more on examples of its model's task"
    ):
        ls.analyses.measure("policy", run)


def test_a_verdict_quotes_what_early_exit_reaches_and_says_what_its_reference_is_allowed():
    result = ls.analyses.measure("policy", by_difficulty())
    lower = dataclasses.replace(
        result, comparison=dataclasses.replace(result.comparison, rule=(2.5, 0.9), model=(3.5, 0.8))
    )
    whole = f"all {result.iterations} iterations {percent(result.full)}."
    assert lower.sentence.endswith(f"reaches 90 % correct with 2.50 iterations on average, {whole}")
    gate = dataclasses.replace(lower, verdict=PolicyVerdict.gate)
    assert gate.sentence.endswith(f"reaches 80 % correct with 3.50 iterations on average, {whole}")
    names = [e.name for e in result.evidence.estimates]
    assert names == ["share of iterations saved, best rule against a fixed depth " + ALLOWED]
    assert f"{100 * result.margin:g} point" in ALLOWED
    caption = discovery.module("analyses", "policy").headline(result)[1]
    assert f"a fixed depth needs {result.method('depth').iterations:.0f}" in caption
