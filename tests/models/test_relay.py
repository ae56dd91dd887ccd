"""Loops whose inner steps are known, since each iteration was trained on one result of a chain:
what every analysis that speaks of steps says of them."""

import pytest
import torch

import loopscope as ls
from loopscope.lenses import chain_matrix

pytestmark = pytest.mark.zoo
FACTS = {"relay-roots": "ancestor", "relay-modular": "value"}


@pytest.fixture(scope="module", params=FACTS)
def entry(request):
    return request.param


def run_of(entry, size=1000, seed=0, **options):
    model = ls.models.load(entry)
    return ls.record(model, model.task.batch(size, seed=seed, **options).tokens)


def gone_on(task, tokens, number, value):
    """The result that the remaining iterations reach, had result `number` been this value."""
    if task.name == "roots":
        for _ in range(4 - number):
            value = tokens.gather(1, value[:, None])[:, 0]
        return value
    rest = tokens.clone()
    rest[:, 0] = value
    rest[:, 1 : 1 + number] = task.symbols.index(".")
    return task.running(rest)[:, -1]


def interchanged(entry, k, number):
    """How often the answer is what follows from the donor's result `number`, if the donor's state
    after k iterations is put in the answer's position: of examples that have another answer by
    themselves."""
    run, donor = (run_of(entry, seed=seed, exactly=4) for seed in (1, 2))
    task = run.model.task
    edit = ls.patch("state", iteration=k, value=donor.states[k][:, -1], position=-1)
    edited = ls.record(run.model, run.tokens, edits=[edit])
    wanted = gone_on(task, run.tokens, number, task.results(donor.tokens).result(number)[:, -1])
    other = wanted != task.solve(run.tokens)[:, -1]
    assert other.sum() > 400
    return float((edited.output[:, -1].argmax(-1) == wanted)[other].float().mean())


def test_the_lens_reads_result_k_after_k_iterations_and_no_other(entry):
    matrix = chain_matrix(run_of(entry, 2000, exactly=4))
    assert matrix.order == (1, 2, 3, 4)
    assert matrix.diagonal.min() >= 0.95 and matrix.off_diagonal.max() <= 0.3
    result = ls.analyses.measure("lens", run_of(entry))
    assert "results of the task's chain in their order, one after each iteration" in str(result)


def test_probes_find_result_k_after_k_iterations_above_every_baseline_and_not_before(entry):
    result = ls.analyses.measure("probes", run_of(entry))
    for k in (1, 2, 3):
        fact = result.facts[f"{FACTS[entry]} {k}"]
        assert fact.formed == k and k in fact.learned
        assert fact.score[k] >= 0.95 and fact.floor[k] < 0.5 and (fact.score[:k] < 0.6).all()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_state_that_is_patched_in_turns_the_answer_as_the_chain_says(entry, k):
    assert interchanged(entry, k, number=k) >= 0.95
    if entry == "relay-modular":
        assert interchanged(entry, k, number=k % 3 + 1) < 0.5, "nor is it any other result"


def test_states_are_gone_on_from(entry):
    result = ls.analyses.measure("causes", run_of(entry, 256, exactly=4), examples=256)
    assert result.verdict.name == "continued"
    assert result.third_answers[-1] == 0


def test_depth_is_used(entry):
    result = ls.analyses.measure("depth_use", run_of(entry), max_inputs=0)
    assert result.verdict.name == "later" and result.correct.min() > 0.95
    settled = result.depths[0].mean_by_level[1:]  # of one operation there are few examples
    torch.testing.assert_close(settled, torch.arange(2.0, 5.0).double(), atol=0.25, rtol=0)
