"""Halting prediction on states that encode their halting iteration, or don't."""

import pytest
import torch

import loopscope as ls
from loopscope.analyses.halting_prediction.measure import (  # pyright: ignore[reportMissingImports]
    HaltingPredictionVerdict,
    verdict_on,
)
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError

from ..toys.table_loop import Planted
from .test_halting import TASK

N, BATCH, WIDTH = 8, 40, 12


def run_of(encoded: str, batch: int = BATCH):
    """States of noise that encode, or don't encode, when their position halts."""
    generator = torch.Generator().manual_seed(0)
    when = torch.randint(0, N, (batch, 9), generator=generator)
    if encoded == "position":
        when = (torch.arange(9) % N).expand(batch, 9).clone()
    table = torch.randn(N + 1, batch, 9, WIDTH, generator=generator)
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
    assert not discovery.module("analyses", "halting_prediction").applies(run)
    result = ls.analyses.measure("halting_prediction", run)
    assert result.verdict.name == "constant" and "nothing to predict" in str(result)
    assert discovery.module("analyses", "halting_prediction").panels(result) == []
    assert result.figure() is not None and result.to_json()
    few = run_of("state", batch=1)
    with pytest.raises(LoopscopeError, match="halt at different iterations, but this run has too few"):
        ls.analyses.measure("halting_prediction", few)
    run.halting = None
    with pytest.raises(LoopscopeError, match="needs a run of a model that halts, or a rule"):
        ls.analyses.measure("halting_prediction", run)


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
    result = verdict_on(torch.tensor([1, 2, 3]), {name: torch.tensor(v) for name, v in r2.items()})
    assert result.name == expected and expected in HaltingPredictionVerdict.__members__
