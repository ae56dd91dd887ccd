"""Halting prediction on states that encode their halting iteration, or don't."""

import dataclasses

import pytest
import torch

import loopscope as ls
from loopscope.analyses.halting_prediction import (  # pyright: ignore[reportMissingImports]
    OBSERVATIONS,
    HaltingPredictionVerdict,
)
from loopscope.analyses.halting_prediction.verdict import (  # pyright: ignore[reportMissingImports]
    verdict_on,
)
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError
from loopscope.common.text import number, plural

from ..toys.table_loop import Planted
from .test_halting import TASK

N, BATCH, WIDTH = 8, 40, 12


def run_of(encoded: str, batch: int = BATCH, width: int = WIDTH):
    """States of noise that encode, or don't encode, when their position halts."""
    generator = torch.Generator().manual_seed(0)
    when = torch.randint(0, N, (batch, 9), generator=generator)
    if encoded == "position":
        when = (torch.arange(9) % N).expand(batch, 9).clone()
    table = torch.randn(N + 1, batch, 9, width, generator=generator)
    if encoded == "state":
        table[..., 3] = (
            0.05 * when
        )  # small: the probe standardises, the signals of the whole state hardly change
    model = Planted(table, None).eval()
    run = ls.record(model, TASK.batch(batch, seed=0).tokens)
    model.task = TASK
    weights = torch.nn.functional.one_hot(when, N).permute(2, 0, 1).float()
    run.halting = ls.Halting(
        weights, when, torch.ones_like(when, dtype=torch.bool), when.float(), when.float(), "plan"
    )
    return run


def test_a_state_that_holds_its_stop_foretells_it_from_the_first_iteration():
    result = ls.analyses.measure("halting_prediction", run_of("state"))
    assert result.verdict.name == "early_more"
    assert (result.r2["state"] > 0.9).all()
    assert (result.r2["signals"] < 0.3).all() and (result.r2["position"] < 0.1).all()


@pytest.mark.parametrize("encoded", ["state", "position", "nothing"])
def test_shuffled_halting_is_never_foretold(encoded):
    assert (ls.analyses.measure("halting_prediction", run_of(encoded)).r2["shuffled"] < 0.1).all()


def test_noise_foretells_nothing():
    result = ls.analyses.measure("halting_prediction", run_of("nothing"))
    assert result.verdict.name == "unknown"
    assert all((values < 0.15).all() for values in result.r2.values())


def test_halting_that_follows_the_position_is_known_from_it():
    assert (ls.analyses.measure("halting_prediction", run_of("position")).r2["position"] > 0.99).all()


def test_only_what_still_runs_is_predicted():
    run = run_of("state")
    result = ls.analyses.measure("halting_prediction", run)
    answered = run.halting.iteration[:, 1:]
    assert result.running.tolist() == [int((answered >= k).sum()) for k in result.iterations.tolist()]


def test_it_draws_itself_and_says_its_thresholds():
    result = ls.analyses.measure("halting_prediction", run_of("state"))
    assert len(discovery.module("analyses", "halting_prediction").panels(result)) == 1
    assert "predicted from an R² of 0.5, early by iteration 2" in str(result) and "plan" in str(result)


def test_a_run_in_which_all_stop_alike_gets_a_sentence():
    run = run_of("state")
    run.halting.iteration[:] = 3
    result = ls.analyses.measure("halting_prediction", run)
    assert result.verdict.name == "constant" and "nothing to predict" in str(result)
    module = discovery.module("analyses", "halting_prediction")
    assert module.panels(result) == [] and module.headline(result)[0] == "constant"
    assert result.figure() is not None and result.to_json()
    few = run_of("state", batch=1)
    with pytest.raises(
        LoopscopeError, match="needs 60 answered positions of 10 examples, but this run has 8"
    ):
        ls.analyses.measure("halting_prediction", few, examples=1)
    run.halting = None
    with pytest.raises(LoopscopeError, match="needs a run of a model that halts, or a rule"):
        ls.analyses.measure("halting_prediction", run)


def halts_at(when: torch.Tensor):
    """A run of noise whose positions halt then."""
    run = run_of("nothing", len(when), width=6)
    run.halting.iteration[:] = when
    return run


def test_whether_it_applies_is_no_matter_of_the_examples():
    applies = discovery.module("analyses", "halting_prediction").applies
    alike = halts_at(torch.full((BATCH, 9), 3))
    assert applies(alike) and applies(run_of("state")) and applies(halts_at(torch.zeros(BATCH, 9)))
    alike.halting = None
    assert not applies(alike)


def test_where_too_few_still_run_nothing_is_said_of_them():
    result = ls.analyses.measure("halting_prediction", halts_at(torch.zeros(BATCH, 9)), examples=BATCH)
    assert result.verdict.name == "unclear"
    assert "After the first iteration 0 positions still run" in str(result)


def test_positions_of_an_example_that_halt_together_are_one_observation():
    together = (torch.arange(BATCH) % N)[:, None].expand(BATCH, 9)
    result = ls.analyses.measure("halting_prediction", halts_at(together), examples=BATCH)
    assert result.verdict.name == "unclear" and not len(result.iterations)
    assert "with 35 halting iterations" in str(result)  # of 40 examples, 5 halt in the first iteration


@pytest.mark.parametrize(("late", "expected"), [(0, "constant"), (8, "unclear"), (200, "unknown")])
def test_few_that_halt_later_than_the_others_leave_open_whether_all_halt_alike(late, expected):
    """320 answered positions halt at 3, some of them at 4: at 8 the deviation is 0.16, and up to
    0.21 on other examples."""
    when = torch.full((BATCH, 9), 3)
    for i in range(late):
        when[i % BATCH, 1 + i // BATCH] = 4
    result = ls.analyses.measure("halting_prediction", halts_at(when), examples=BATCH)
    assert result.verdict.name == expected


def test_a_small_run_of_an_entry_is_joined_by_others_of_its_task_that_follow_from_it():
    model = ls.models.load("ponder-parity")
    results = [
        ls.analyses.measure("halting_prediction", ls.record(model, model.task.batch(16, seed=seed).tokens))
        for seed in (0, 1)
    ]
    assert [r.verdict.name for r in results] == ["early"] * 2
    assert "2000 other test examples of the task" in str(results[0])
    assert "2000 fresh examples" in results[0].evidence.how
    assert results[0].r2["state"].tolist() != results[1].r2["state"].tolist()


NAN = float("nan")


@pytest.mark.parametrize(
    ("state", "signals", "shuffled", "expected"),
    [
        ([0.9, 0.9, 0.9], [0.2, 0.2, 0.2], [0.0, 0.0, 0.0], "early_more"),
        ([0.9, 0.9, 0.9], [0.85, 0.85, 0.85], [0.0, 0.0, 0.0], "early"),
        ([0.1, 0.1, 0.9], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], "late"),
        ([0.4, 0.4, 0.4], [0.0, 0.0, 0.0], [-1.0, -1.0, -1.0], "unknown"),
        ([0.9, 0.9, 0.9], [0.0, 0.0, 0.0], [0.5, 0.5, 0.5], "unknown"),
        ([NAN, NAN, NAN], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], "unclear"),
        ([NAN, 0.2, 0.2], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], "unknown"),
        ([0.9, NAN, NAN], [NAN, NAN, NAN], [NAN, NAN, NAN], "early_more"),
    ],
)
def test_every_verdict_is_reached_and_what_is_unknown_predicts_nothing(state, signals, shuffled, expected):
    r2 = {"state": state, "signals": signals, "position": [0.0] * 3, "shuffled": shuffled}
    r2 = {name: torch.tensor(v) for name, v in r2.items()}
    result = verdict_on(torch.tensor([1, 2, 3]), r2, torch.ones(3))
    assert result.name == expected and expected in HaltingPredictionVerdict.__members__


@pytest.mark.parametrize(
    ("state", "spread", "fitted", "expected"),
    [
        ([0.9, 0.9, 0.9], [0.1, 0.2, 0.1], [1, 1, 1], "constant"),
        ([0.9, 0.1, 0.1], [0.1, 1.0, 1.0], [1, 1, 1], "unknown"),  # k = 1 doesn't count
        ([0.1, 0.1, 0.1], [1.0, 1.0, 1.0], [0, 0, 0], "unclear"),
        ([0.1, 0.1, 0.1], [1.0, 1.0, 1.0], [1, 0, 0], "unknown"),
        ([0.1, 0.1, 0.9], [1.0, 1.0, 1.0], [0, 0, 1], "unclear"),  # early or late
        ([0.9, 0.1, 0.1], [1.0, 1.0, 1.0], [0, 0, 0], "early_more"),  # held-out success is enough
    ],
)
def test_what_does_not_predict_is_said_only_of_enough_examples_that_differ(state, spread, fitted, expected):
    zero = torch.zeros(3)
    r2 = {"state": torch.tensor(state), "signals": zero, "position": zero, "shuffled": zero}
    enough = torch.tensor(fitted) > 0
    assert verdict_on(torch.tensor([1, 2, 3]), r2, torch.tensor(spread), enough).name == expected


def test_noise_of_too_few_examples_is_unclear():
    """40 examples of 8 answers have no more than OBSERVATIONS halting iterations for each of 32
    numbers of the state."""
    wide = run_of("nothing", width=32)
    assert BATCH * 8 <= OBSERVATIONS * 32
    assert ls.analyses.measure("halting_prediction", wide, examples=BATCH).verdict.name == "unclear"


def test_where_no_answer_halts_they_are_not_said_to_halt_alike():
    run = halts_at(torch.full((BATCH, 9), N - 1))
    run.halting = dataclasses.replace(run.halting, halted=torch.zeros(BATCH, 9, dtype=torch.bool))
    result = ls.analyses.measure("halting_prediction", run, examples=BATCH)
    assert result.verdict.name == "never" and "halt alike" not in str(result)
    run.halting.halted[:] = True
    assert ls.analyses.measure("halting_prediction", run, examples=BATCH).verdict.name == "constant"


def test_the_sentence_quotes_what_each_predictor_reaches_where_the_state_is_best():
    result = ls.analyses.measure("halting_prediction", run_of("state"), examples=BATCH)
    assert result.iterations[:2].tolist() == [1, 2] and result.verdict.name.startswith("early")
    late = result.r2 | {"state": torch.arange(len(result.iterations)) / 10}  # best after 2, of the early
    result = dataclasses.replace(result, r2=late)
    i = result.best
    assert float(result.r2["state"][i]) >= float(result.r2["state"][result.iterations <= 2].max())
    k = int(result.iterations[i])
    values = [number(float(result.r2[name][i]), 2) for name in ("state", "signals", "position")]
    assert (
        f"R² after {plural(k, 'iteration')}: {values[0]} from the state, {values[1]} from the signals, "
        in (result.sentence)
    )
    value, caption = discovery.module("analyses", "halting_prediction").headline(result)
    assert value == f"R² {float(result.r2['state'][i]):.2f}" and str(k) in caption
