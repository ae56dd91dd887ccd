"""How the answer forms, on answers that form as planned."""

import dataclasses

import pytest
import torch

import loopscope as ls
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError
from loopscope.maths import kappa

from ..toys.table_loop import Planted, planted
from .test_halting import TASK

N, BATCH = 12, 64
K = torch.arange(N + 1)[:, None, None]
LENS = discovery.module("analyses", "lens")


def run_of(right):
    return planted(right.expand(N + 1, BATCH, 9), TASK, TASK.batch(BATCH, seed=0))


def lens_of(right, **options):
    return ls.analyses.measure("lens", run_of(right), **options)


def test_an_answer_that_is_there_from_the_start_is_called_so():
    result = lens_of(K >= 0)
    assert result.verdict.name == "start"
    assert (result.settled == 0).all() and (result.agreement == 1).all() and (result.kl == 0).all()


def test_answers_that_all_come_in_one_iteration_come_at_once():
    result = lens_of(K >= 5)
    assert result.verdict.name == "at_once"
    assert (result.settled == 5).all()
    assert torch.allclose(result.flips[0], (K[:, 0, 0] == 5).double())
    assert (result.agreement[0] == (K[:, 0, 0] >= 5)).all()


def test_answers_that_come_one_after_the_other_come_one_by_one():
    result = lens_of(torch.arange(9)[None, None] <= K)
    assert result.verdict.name == "one_by_one"
    assert result.settled[0].view(BATCH, 8).unique(dim=0).tolist() == [list(range(1, 9))]


def test_answers_that_flip_to_the_end_go_on_changing():
    answers = torch.randint(0, TASK.vocabulary, (N + 1, BATCH, 9), generator=torch.Generator().manual_seed(0))
    model = Planted(5.0 * torch.nn.functional.one_hot(answers, TASK.vocabulary), TASK).eval()
    result = ls.analyses.measure("lens", ls.record(model, TASK.batch(BATCH, seed=0).tokens))
    assert result.verdict.name == "changing"
    assert float(result.kappa[0, :-1].abs().max()) < 4 / (BATCH * 8) ** 0.5, "and agree only by chance"


def test_answers_that_come_and_go_are_said_to_and_chance_is_drawn():
    """Right at odd k up to 5, then for good: 5 changes, each to an answer that is certain."""
    batch = TASK.batch(BATCH, seed=0)
    right = (K % 2 == 1) | (K > 5)
    answers = torch.where(right, batch.targets, (batch.targets + 1) % TASK.vocabulary)
    certain = Planted(12.0 * torch.nn.functional.one_hot(answers, TASK.vocabulary), TASK).eval()
    result = ls.analyses.measure("lens", ls.record(certain, batch.tokens))
    assert result.flip_count == pytest.approx(5) and result.is_saturated
    assert "On the way an answer changes 5 times on average. It may appear and vanish" in result.sentence
    assert "nearly certain" in result.sentence
    steady = lens_of(torch.arange(9)[None, None] <= K)
    assert "On the way" not in steady.sentence
    assert LENS.headline(steady) == ("4 iterations", "run before half of the answers no longer change")
    there = dataclasses.replace(steady, settled=torch.zeros_like(steady.settled))
    assert LENS.headline(there) == ("half", "or more of the final answers are there before the loop")
    curves = {trace.name: trace for trace in LENS.panels(steady)[2].figure.data if trace.name}
    drawn = torch.tensor(
        [float("nan") if v is None else v for v in curves["final answer, by chance"].y]
    ).double()
    known = ~drawn.isnan()
    agreement, kappas = steady.agreement[0][known], steady.kappa[0][known]
    assert bool(known.any())
    assert torch.allclose((agreement - drawn[known]) / (1 - drawn[known]), kappas, atol=1e-3)


def test_answers_that_grow_likelier_bit_by_bit_form_gradually():
    batch = TASK.batch(BATCH, seed=0)
    answers = torch.nn.functional.one_hot(batch.targets, TASK.vocabulary).float()
    other = torch.nn.functional.one_hot((batch.targets + 1) % TASK.vocabulary, TASK.vocabulary).float()
    sure = torch.linspace(-3, 3, N + 1)[:, None, None] + torch.randn(
        BATCH, 9, generator=torch.Generator().manual_seed(0)
    )
    model = Planted(sure[..., None] * (answers - other) / 2, TASK).eval()
    result = ls.analyses.measure("lens", ls.record(model, batch.tokens))
    assert result.verdict.name == "gradual"
    assert (result.kl[0].diff() < 0).all(), "and nearer with every iteration"


def test_answers_that_are_all_alike_tell_nothing():
    model = Planted((5.0 * torch.eye(TASK.vocabulary)[0]).expand(N + 1, BATCH, 9, -1), TASK).eval()
    result = ls.analyses.measure("lens", ls.record(model, TASK.batch(BATCH, seed=0).tokens))
    assert result.verdict.name == "alike" and result.kappa.isnan().all()
    assert LENS.headline(result)[0] == "-"


def test_only_answered_positions_count_unless_all_are_wanted():
    right = (torch.arange(9) > 0)[None, None] & (K >= 3)
    assert lens_of(right).items == BATCH * 8
    result = lens_of(right, positions="all")
    assert result.items == BATCH * 9 and result.followed == {
        "final answer": BATCH * 9,
        "right answer": BATCH * 8,
    }
    assert result.right is not None and float(result.right[0, -1]) == 1, "of those that can be right"


def test_facts_are_followed_where_they_are():
    fact = torch.full((BATCH, 9), -1)
    fact[:, 3] = TASK.batch(BATCH, seed=0).targets[:, 3]
    result = lens_of(K >= 5, facts={"the third": fact})
    assert result.followed["the third"] == BATCH
    assert (result.rank["the third"][0, 5:] == 1).all() and (result.rank["the third"][0, :5] > 1).all()
    assert "the third (of 64 items)" in str(result)
    names = [trace.name for trace in result.figure().data if trace.name]  # bands have none
    assert names == ["final answer", "right answer", "the third"]


def test_right_and_final_are_two_things():
    result = lens_of((K >= 3) & (K < 8))
    assert result.right is not None
    assert (result.right[0, 3:8] == 1).all() and (result.right[0, 8:] == 0).all()
    assert float(result.agreement[0, 5]) == 0 and float(result.agreement[0, -1]) == 1
    assert float(result.rank["right answer"][0, -1]) > 1 == float(result.rank["final answer"][0, -1])


def test_a_lens_that_was_not_checked_is_marked_wherever_it_speaks():
    model = ls.models.load("huginn-hops")
    run = ls.record(model, model.task.batch(16, seed=0).tokens, seed=0)
    with pytest.raises(LoopscopeError, match="leaves out the coda"):
        ls.analyses.measure("lens", run, lens="logit")
    result = ls.analyses.measure("lens", run, lens="logit", check=False)
    assert str(result).startswith("Unchecked: the lens 'logit' need not give")
    for panel in LENS.panels(result):
        assert "(unchecked lens)" in panel.figure.layout.title.text and panel.observation.startswith(
            "Unchecked:"
        )
    assert "unchecked" not in str(ls.analyses.measure("lens", run)).lower()


def test_the_table_shows_what_was_read_and_how_near_it_is():
    result = lens_of(K >= 5)
    panel = LENS.panels(result)[-1]
    cells = panel.frames[2].update[0]
    batch = TASK.batch(BATCH, seed=0)
    wrong, right = cells["text"][4], cells["text"][5]
    assert right[1:] == [TASK.symbols[t] for t in batch.targets[2, 1:].tolist()]
    assert all(a != b for a, b in zip(wrong, right, strict=True))
    assert cells["z"][4][3] < 0.1 < 0.9 < cells["z"][5][3]
    given, top, verdict = cells["customdata"][4][3]
    assert given == TASK.symbols[int(batch.tokens[2, 3])] and verdict.startswith("<br>wrong: ")
    assert top.startswith(f"{wrong[3]} 0.9")
    assert cells["customdata"][5][3][2] == "<br>right" and cells["customdata"][5][0][2] == ""


def test_sites_of_the_body_stand_beside_the_state():
    model = ls.models.load("universal-prefix-parity")
    run = ls.record(
        model,
        model.task.batch(16, seed=0).tokens,
        12,
        sites=["core.0.hook_resid_post", "core.0.hook_resid_mid"],
    )
    result = ls.analyses.measure(
        "lens", run, sites=["state", "core.0.hook_resid_mid", "core.0.hook_resid_post"]
    )
    assert result.kl.shape == (3, 13) and result.kl[1:, -1].isnan().all()
    # the last thing an iteration makes is the next state
    assert torch.allclose(result.kl[2, :-1], result.kl[0, 1:])
    assert "At 'core.0.hook_resid_post' kappa is" in str(result)
    assert result.to_json()


def test_models_without_a_task_are_read_at_all_positions_but_padding():
    from ..toys.small_models import hrm_text

    torch.manual_seed(0)
    mask = torch.tensor([[0, 0, 1, 1, 1], [1] * 5])
    run = ls.record(ls.wrap(hrm_text().eval()), torch.randint(0, 38, (2, 5)), attention_mask=mask)
    assert LENS.applies(run)
    result = ls.analyses.measure("lens", run)
    assert result.items == 8 and result.right is None and list(result.rank) == ["final answer"]
    assert len(LENS.panels(result)) == 4


def test_it_applies_only_where_states_are_read_out_as_tokens():
    model = ls.models.load("regression-linear")
    assert not LENS.applies(ls.record(model, model.task.batch(4, seed=0).tokens))
    assert LENS.applies(run_of(K >= 5))
    assert not LENS.applies(ls.record(Planted(torch.zeros(1, 2, 3, 4)).eval(), torch.zeros(2, 3).long()))
    with pytest.raises(LoopscopeError, match="positions must be 'answers' or 'all'"):
        lens_of(K >= 5, positions="some")


def test_kappa_is_one_for_the_same_nought_for_chance_and_below_for_contrary():
    first = torch.tensor([0, 0, 1, 1])
    assert float(kappa(first, first)) == 1
    assert float(kappa(first, torch.tensor([0, 1, 0, 1]))) == 0
    assert float(kappa(first, 1 - first)) == -1
    assert kappa(torch.zeros(4).long(), torch.zeros(4).long()).isnan()
    # by hand: they agree on 7 of 10; by chance 0.5 · 0.6 + 0.5 · 0.4
    ten = torch.tensor([0] * 5 + [1] * 5)
    other = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 0, 0])
    assert float(kappa(ten, other)) == pytest.approx((0.7 - 0.5) / 0.5)
