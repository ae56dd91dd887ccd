"""The comparison of probes with the model's own answers: every verdict, and what isn't known."""

import math

import pytest
import torch

import loopscope as ls
from loopscope.analyses.probes import ProbesVerdict as V  # pyright: ignore[reportMissingImports]
from loopscope.analyses.probes import verdict  # pyright: ignore[reportMissingImports]

ROWS, FLOOR = 400, 0.5
GENERATOR = torch.Generator().manual_seed(0)


def hits(*shares):
    """Exactly this share of the rows at each iteration, in a random order."""
    return torch.stack(
        [
            (torch.arange(ROWS) < share * ROWS).double()[torch.randperm(ROWS, generator=GENERATOR)]
            for share in shares
        ]
    )


def parts(probe, model, rows_of_an_example=1):
    return verdict.Comparison(
        probe=hits(*probe),
        model=None if model is None else hits(*model),
        truth=torch.zeros(ROWS, dtype=torch.float64),
        example=torch.arange(ROWS) // rows_of_an_example,
        floor=torch.full((len(probe),), FLOOR, dtype=torch.float64),
        numbers=False,
    )


CASES = {
    V.ahead: parts((0.5, 0.9, 0.9), (0.5, 0.5, 0.9)),
    V.alike: parts((0.5, 0.9, 0.95), (0.5, 0.9, 0.95)),
    V.behind: parts((0.5, 0.6, 0.7), (0.5, 0.8, 0.95)),
    V.absent: parts((0.5, 0.45), (0.5, 0.45)),
    V.unclear: parts((0.5, 0.85), (0.5, 0.8)),  # a difference of the margin itself
}


@pytest.mark.parametrize("member", V)
def test_each_verdict_has_its_scores(member: V):
    result, evidence = verdict.probes_verdict(CASES[member])
    assert result is member
    assert evidence.examples == ROWS
    if member is V.unclear:
        assert set(evidence.alternatives) == {V.ahead, V.alike}


def test_the_interval_is_that_of_the_difference_on_the_same_rows():
    one = hits(0.7)
    same = parts((0.7,), (0.7,))._replace(probe=one, model=one)
    lead = verdict.probes_verdict(same)[1].estimates[0]
    assert (lead.value, lead.low, lead.high) == (0, 0, 0)


def test_rows_of_one_example_count_together():
    few = verdict.probes_verdict(parts((0.8,), (0.7,), rows_of_an_example=20))[1]
    assert few.examples == 20
    assert verdict.probes_verdict(parts((0.9,), (0.9,), rows_of_an_example=100))[0] is V.unclear, "4 examples"


@pytest.mark.parametrize(
    ("probe", "model", "expected"),
    [
        ((0.9,), None, V.unclear),  # nothing to compare with
        ((0.5,), None, V.absent),
    ],
)
def test_without_answers_of_the_model_only_absence_is_known(probe, model, expected):
    assert verdict.probes_verdict(parts(probe, model))[0] is expected


def test_probes_that_could_not_be_trained_are_left_out():
    holes = parts((0.5, 0.9), (0.5, 0.9))
    probe = holes.probe.clone()
    probe[0] = torch.nan
    assert verdict.probes_verdict(holes._replace(probe=probe))[0] is V.alike
    nothing, evidence = verdict.probes_verdict(holes._replace(probe=probe * torch.nan))
    assert nothing is V.unclear and math.isnan(evidence.estimates[0].value)


def test_numbers_are_compared_by_the_variance_explained():
    truth = torch.randn(ROWS, generator=GENERATOR, dtype=torch.float64)
    noise = torch.randn(ROWS, generator=GENERATOR, dtype=torch.float64)
    numbers = verdict.Comparison(
        probe=(0.1 * noise)[None].square(),
        model=(0.9 * noise)[None].square(),
        truth=truth,
        example=torch.arange(ROWS),
        floor=torch.zeros(1, dtype=torch.float64),
        numbers=True,
    )
    result, evidence = verdict.probes_verdict(numbers)
    assert result is V.ahead and evidence.estimates[0].name.startswith("R²")


@pytest.mark.parametrize("entry", ["ouro-mano", "universal-prefix-parity"])
def test_held_out_predictions_give_the_scores_of_the_probes(entry: str):
    model = ls.models.load(entry)
    run = ls.record(model, model.task.batch(160, seed=3).tokens)
    result = ls.analyses.measure("probes", run, examples=160)
    probes = ls.Probes.fit(run, "answer", positions="shared", random=False, controls=0)
    compared = verdict.comparison(run, probes, result.facts["answer"], None, site="state")
    scores = compared.scores(compared.probe, torch.ones(len(compared.truth)).double())
    assert torch.allclose(scores, probes.score[0, :, 0])


def test_the_baselines_are_named_and_a_probe_of_the_input_reads_what_is_in_it():
    model = ls.models.load("universal-prefix-parity")
    run = ls.record(model, model.task.batch(160, seed=0).tokens)
    result = ls.analyses.measure("probes", run, examples=160)
    assert list(result.baselines) == [
        "majority class", "shuffled labels", "random features", "probe of the input",
        "probe of the state at k = 0",
    ]  # fmt: skip
    assert result.baselines["probe of the input"] < 0.65, "no parity is linear in the bits"
    assert "probe of the input" in str(result)


def test_an_untrained_loop_that_ends_earlier_is_no_obstacle():
    model = ls.models.load("equilibrium-prefix-parity")
    run = ls.record(model, model.task.batch(64, seed=0).tokens)
    assert ls.analyses.measure("probes", run).verdict is V.alike
