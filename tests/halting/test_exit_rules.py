"""Every rule on a trajectory made by hand, for which the correct stop is known; signals against
their formulae."""

import math

import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.halting import exit_rules
from loopscope.maths import output_signals

from ..toys.table_loop import Planted


def run_of(*logits):
    """One example, one position; the logits after 0, 1, 2 ... iterations."""
    table = torch.tensor(logits, dtype=torch.float64)[:, None, None]
    return ls.record(Planted(table).eval(), torch.zeros(1, 1, dtype=torch.long))


def logs(*probabilities):
    return [math.log(p) for p in probabilities]


def stop(run, rule, threshold=None):
    result = exit_rules.rule_halting(run, rule, threshold)
    return (int(result.iteration), bool(result.halted))


P = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.6, 0.3]]).double().log()
Q = torch.tensor([[0.2, 0.4, 0.4], [0.3, 0.3, 0.4]]).double().log()


def test_divergence_is_the_sum_over_tokens_in_the_direction_that_is_asked():
    by_hand = [
        sum(math.exp(p) * (p - q) for p, q in zip(a, b, strict=True))
        for a, b in zip(P.tolist(), Q.tolist(), strict=True)
    ]
    assert output_signals.kl_divergence(P, Q).tolist() == pytest.approx(by_hand)
    assert not torch.allclose(output_signals.kl_divergence(P, Q), output_signals.kl_divergence(Q, P))
    never = torch.tensor([0.0, -math.inf]).double()
    assert output_signals.kl_divergence(never, torch.tensor([0.0, -math.inf]).double()) == 0
    assert output_signals.entropy(never) == 0


def test_entropy_is_in_nats():
    assert output_signals.entropy(torch.full((7,), 1 / 7).log().double()).item() == pytest.approx(math.log(7))


def test_min_p_sets_unlikely_tokens_to_the_uniform_share_and_normalises():
    p = torch.tensor([0.9, 0.07, 0.03]).double().log()  # 0.07 and 0.03 lie below 0.09
    share = [0.9, 1 / 3, 1 / 3]
    assert output_signals.min_p(p).exp().tolist() == pytest.approx([s / sum(share) for s in share])
    flat = torch.tensor([0.5, 0.4, 0.1]).double().log()
    assert torch.allclose(output_signals.min_p(flat), flat)


def test_the_margin_is_above_zero_where_the_answer_is_right():
    logits = torch.tensor([[3.0, 1, 2], [0, 5, 4]])
    assert output_signals.margin(logits, torch.tensor([0, 2])).tolist() == [1.0, -1.0]


def test_the_state_rules_stop_at_the_first_small_step():
    # relative steps: 0.5, 0.5, 0.01 / 4.01, 0; all in one direction, so that the cosine never moves
    # but at the start
    run = run_of([1, 0], [2, 0], [4, 0], [4.01, 0], [4.01, 0])
    assert exit_rules.RULES["latent"].scores(run)[:, 0, 0].tolist() == pytest.approx(
        [0.5, 0.5, 0.01 / 4.01, 0], rel=1e-4
    )
    assert stop(run, "latent") == (2, True)
    assert stop(run, "latent", 0.5) == (0, True)
    assert stop(run, "latent", 1e-3) == (3, True)
    assert stop(run, "cosine") == (0, True)
    turned = run_of([1, 0], [0, 1], [0, 2], [0, 2])
    assert exit_rules.RULES["cosine"].scores(turned)[:, 0, 0].tolist() == pytest.approx([1, 0, 0])
    assert stop(turned, "cosine") == (1, True)


def test_the_divergence_rules_compare_the_first_answer_with_knowing_nothing():
    run = run_of(logs(0.99, 0.01), logs(0.5, 0.5), logs(0.9, 0.1), logs(0.9, 0.1))
    assert stop(run, "kl") == (0, True), (
        "the first answer is uniform, and the state before the loop is no answer"
    )
    sure = run_of(logs(0.9, 0.1), logs(0.9, 0.1), logs(0.9, 0.1))
    assert stop(sure, "kl") == (1, True)
    kl = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    back = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert exit_rules.RULES["kl"].scores(sure)[0].item() == pytest.approx(kl, rel=1e-4)
    assert exit_rules.RULES["kl_reverse"].scores(sure)[0].item() == pytest.approx(back, rel=1e-4)


def test_the_direction_of_the_divergence_decides_where_it_stops():
    # KL(previous || new) is 0.51 and KL(new || previous) 0.37 at the first
    sure = run_of(logs(0.5, 0.5), logs(0.9, 0.1), logs(0.9, 0.1))
    assert stop(sure, "kl", 0.45) == (1, True)
    assert stop(sure, "kl_reverse", 0.45) == (0, True)


def test_a_stable_answer_that_is_still_unsure_does_not_stop_with_entropy_in_the_rule():
    vague, clear = logs(0.5, 0.3, 0.2), logs(0.98, 0.01, 0.01)
    run = run_of(vague, vague, vague, clear, clear)
    assert stop(run, "kl_reverse") == (1, True)
    assert stop(run, "kl_entropy") == (3, True)
    assert stop(run_of(vague, vague, vague), "kl_entropy") == (1, False)
    bound = 0.56 * math.log(210)
    assert bound == pytest.approx(3.00, abs=0.01), "the bound of the source, at its vocabulary"


def test_entropy_and_min_p_see_only_what_they_are_about():
    moved = run_of(logs(0.8, 0.1, 0.1), logs(0.8, 0.1, 0.1), logs(0.1, 0.8, 0.1))
    assert stop(moved, "entropy") == (1, True), "another answer, but no less sure"
    assert stop(moved, "kl") == (1, False)
    tail = run_of(logs(0.95, 0.04, 0.01), logs(0.95, 0.04, 0.01), logs(0.95, 0.01, 0.04))
    assert stop(tail, "min_p") == (1, True) and stop(tail, "kl") == (1, False)


def test_argmax_stops_once_the_answer_has_stayed_so_long():
    a, b = [1.0, 0.0], [0.0, 1.0]
    run = run_of(b, a, b, b, b, b, b, b, a)
    assert stop(run, "argmax", 2) == (3, True)
    assert stop(run, "argmax") == (6, True)
    assert stop(run, "argmax", 6) == (7, False)
    assert stop(run_of(a, a, a), "argmax", 1) == (1, True), "what is read before the loop is no answer"


def test_confidence_stops_at_the_first_answer_that_is_sure():
    run = run_of(logs(0.99, 0.01), logs(0.6, 0.4), logs(0.91, 0.09), logs(0.6, 0.4))
    assert stop(run, "confidence") == (1, True)
    assert stop(run, "confidence", 0.95) == (2, False)


def test_an_example_stops_by_the_mean_over_what_it_answers():
    table = torch.zeros(3, 1, 3, 2)
    table[1:, 0, :, 0] = torch.tensor([[4.0, 0, 50], [4, 4, -50]])
    run = ls.record(Planted(table).eval(), torch.zeros(1, 3, dtype=torch.long))
    mask = torch.tensor([[True, True, False]])
    single = exit_rules.rule_halting(run, "confidence", 0.9)
    assert single.iteration[0, :2].tolist() == [0, 1]
    both = exit_rules.rule_halting(run, "confidence", 0.9, "example", answer_positions=mask)
    assert both.iteration.tolist() == [[1, 1, 1]], "0.98 and 0.5 are 0.74 on average"


def test_the_models_own_halting_is_a_rule_too():
    tokens = torch.randint(0, 3, (4, 6), generator=torch.Generator().manual_seed(0))
    for build in (
        lambda: ls.models.build("universal", vocabulary=3, width=16, halting="accumulated", seed=1),
        lambda: ls.models.build("ponder", vocabulary=3, width=16, threshold=0.8, seed=1),
        lambda: ls.models.build("ouro", vocabulary=3, width=16, threshold=0.9, seed=1),
        lambda: ls.models.build("hrm", vocabulary=3, width=16, length=6, seed=1),
        lambda: ls.models.build("equilibrium", vocabulary=3, width=16, tolerance=1e-2, seed=1),
    ):
        run = ls.record(build().eval(), tokens)
        result = exit_rules.rule_halting(run, "model")
        assert torch.equal(result.iteration, run.halting.iteration), type(run.model).__name__
        assert torch.equal(result.halted, run.halting.halted)


def test_what_is_no_rule_gets_a_sentence():
    run = run_of([1, 0], [1, 0])
    with pytest.raises(LoopscopeError, match="there is no rule called 'klr'"):
        exit_rules.rule_halting(run, "klr")
    with pytest.raises(LoopscopeError, match="needs a model that halts by itself, but Planted doesn't"):
        exit_rules.rule_halting(run, "model")
