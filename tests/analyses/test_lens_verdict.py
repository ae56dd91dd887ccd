"""The verdict on how the answer forms: every member, from answers made by hand, and what isn't
known."""

import math

import pytest
import torch

import loopscope as ls
from loopscope.analyses.lens import LensVerdict, verdict  # pyright: ignore[reportMissingImports]
from loopscope.analyses.lens.metrics import kappas  # pyright: ignore[reportMissingImports]
from loopscope.lenses.lens_measures import settling_iteration
from loopscope.maths import kappa

N, EXAMPLES, ITEMS = 8, 20, 4
FINAL = torch.arange(EXAMPLES * ITEMS) % 2
K = torch.arange(N + 1)[:, None]


def formation(right, probability=None, examples=EXAMPLES, final=None, iterations=None):
    """Answers that are the final one where `right` (iteration, item), with this probability."""
    count = right.shape[1]
    final = FINAL[:count] if final is None else final
    answers = torch.where(right, final, 1 - final)
    probability = right.double() * 0.8 + 0.1 if probability is None else probability
    iterations = tuple(range(len(right))) if iterations is None else iterations
    return verdict.Formation(
        answers,
        final,
        settling_iteration(answers[None], iterations)[0],
        verdict.sharpness(probability[None])[0],
        torch.arange(count) * examples // count,
        iterations,
    )


def from_k(when):
    """Right from these iterations on, one for each item."""
    return when <= K


SPREAD = torch.arange(EXAMPLES * ITEMS) % 5 + 1
SLOW = (K / N).double().expand(-1, EXAMPLES * ITEMS)
COIN = torch.rand(N + 1, EXAMPLES * ITEMS, generator=torch.Generator().manual_seed(0)) < 0.5
CASES = {
    LensVerdict.start: lambda: formation(from_k(torch.zeros(EXAMPLES * ITEMS))),
    LensVerdict.at_once: lambda: formation(from_k(torch.full((EXAMPLES * ITEMS,), 3))),
    LensVerdict.one_by_one: lambda: formation(from_k(SPREAD)),
    LensVerdict.gradual: lambda: formation(from_k(SPREAD), SLOW),
    LensVerdict.changing: lambda: formation(torch.cat([COIN[:-1], torch.ones_like(COIN[:1])])),
    LensVerdict.alike: lambda: formation(from_k(SPREAD), final=torch.zeros(80).long()),
    LensVerdict.hidden: lambda: formation(torch.cat([COIN[:1]] * (N + 1))),
    LensVerdict.unclear: lambda: formation(from_k(SPREAD)[:, :ITEMS], examples=1),
}


@pytest.mark.parametrize("member", LensVerdict)
def test_each_verdict_has_its_answers(member: LensVerdict):
    result, evidence = verdict.formation_verdict(CASES[member]())
    assert result is member
    assert sum(evidence.support.values()) == pytest.approx(1)
    assert [one.value for one in evidence.estimates]


def test_half_of_the_rise_in_each_of_two_iterations_is_not_at_once():
    when = torch.arange(EXAMPLES * ITEMS) // 2 % 2 + 1
    result, _ = verdict.formation_verdict(formation(from_k(when)[:3]))
    assert result is LensVerdict.one_by_one


def test_a_share_at_the_threshold_is_unclear_and_names_what_it_stands_between():
    early = torch.arange(EXAMPLES * ITEMS) < 0.5625 * EXAMPLES * ITEMS  # (1 + 1 / 8) / 2 of them
    when = torch.where(early[torch.randperm(80, generator=torch.Generator().manual_seed(0))], 2, 5)
    result, evidence = verdict.formation_verdict(formation(from_k(when)))
    assert result is LensVerdict.unclear
    assert set(evidence.alternatives) == {LensVerdict.at_once, LensVerdict.one_by_one}


@pytest.mark.parametrize("iterations", [1, 2])
def test_one_iteration_or_none_does_not_tell_how_an_answer_forms(iterations: int):
    right = from_k(torch.ones(EXAMPLES * ITEMS))[:iterations]
    expected = LensVerdict.hidden if iterations == 1 else LensVerdict.unclear
    assert verdict.formation_verdict(formation(right))[0] is expected


def test_answers_that_are_nowhere_give_no_verdict():
    empty = formation(from_k(SPREAD))._replace(answers=torch.full((N + 1, 80), -1))
    result, evidence = verdict.formation_verdict(empty)
    assert result is LensVerdict.unclear
    assert all(math.isnan(one.value) for one in evidence.estimates[:2])


def test_probabilities_that_are_unknown_or_hardly_rise_have_no_sharpness():
    flat = torch.full((1, 5, 3), 0.5)
    flat[0, 2:, 1] += 0.3
    flat[0, :, 2] = torch.tensor([0.5, 0.6, 0.7, 0.8, 0.9])
    result = verdict.sharpness(flat)[0]
    assert result[0].isnan() and result[1] == 1
    assert result[2] == pytest.approx(0.25)
    assert verdict.sharpness(flat * math.nan).isnan().all()
    assert verdict.sharpness(flat[:, :1]).isnan().all()
    unknown = formation(from_k(SPREAD))._replace(sharpness=torch.full((80,), math.nan))
    assert verdict.formation_verdict(unknown)[0] is LensVerdict.unclear


def test_kappa_of_weighted_items_is_that_of_repeated_ones():
    generator = torch.Generator().manual_seed(0)
    answers = torch.randint(0, 4, (1, 6, 50), generator=generator)
    final = torch.randint(0, 3, (50,), generator=generator)
    answers[0, 2, 10:] = -1
    times = torch.randint(0, 3, (50,), generator=generator)
    result = kappas(answers, final, times.double())[0]
    for k in range(6):
        present = answers[0, k] >= 0
        one, other = (x[present].repeat_interleave(times[present]) for x in (answers[0, k], final))
        assert float(result[k]) == pytest.approx(float(kappa(one, other)))
    assert kappas(answers * 0, final * 0).isnan().all(), "both use one category"
    assert kappas(answers * 0 - 1, final).isnan().all(), "no answers"


def test_the_mean_lies_within_its_band():
    model = ls.models.load("ouro-mano")
    result = ls.analyses.measure("lens", ls.record(model, model.task.batch(48, seed=0).tokens))
    means = {"kl": result.kl, "agreement": result.agreement, "rank final answer": result.rank["final answer"]}
    for name, mean in means.items():
        low, high = result.bands[name]
        assert (low <= mean[0] + 1e-9).all() and (mean[0] <= high + 1e-9).all()
    assert set(result.bands) == {*means, "entropy", "right", "rank right answer"}
