"""What is read out of a run that is larger than the memory, some examples at a time: the same as of
all at once."""

import sys

import pytest
import torch

import loopscope as ls
from loopscope.recorder import example_parts as module
from loopscope.recorder import subset
from loopscope.recorder.example_parts import example_parts
from loopscope.runs import finite

from ..toys.same_result import differences

EXAMPLES, ITERATIONS = 10, 3


@pytest.fixture(scope="module")
def model():
    return ls.models.build("universal", vocabulary=5, width=8, heads=2, iterations=ITERATIONS).eval()


@pytest.fixture(scope="module")
def runs(model, tmp_path_factory):
    """The same examples in memory, and on disk as three batches."""
    tokens = torch.randint(0, 5, (EXAMPLES, 4), generator=torch.Generator().manual_seed(0))
    folder = tmp_path_factory.mktemp("parts") / "run"
    stored = ls.record_many(model, tokens.split(4), to=folder, iterations=ITERATIONS, progress=False)
    return ls.record(model, tokens, ITERATIONS), stored


@pytest.fixture
def small(monkeypatch):
    """Parts of three examples."""
    one = 4 * 4 * (8 + 5)
    monkeypatch.setattr(module, "PART", 3 * one)


def test_parts_are_all_examples_in_order_and_no_larger_than_asked(runs):
    memory, stored = runs
    assert [(rows, part is memory) for rows, part in example_parts(memory, 1)] == [(slice(0, 10), True)]
    parts = list(example_parts(stored, 3 * 4 * 4 * (8 + 5)))
    assert [len(part.tokens) for _, part in parts] == [3, 3, 3, 1]
    for rows, part in parts:
        assert torch.equal(part.tokens, memory.tokens[rows])
        for k in range(ITERATIONS + 1):
            assert torch.allclose(part.states[k], memory.states[k][rows], atol=1e-5)
            assert torch.allclose(part.logits[k], memory.logits[k][rows], atol=1e-5)


def test_a_part_reads_its_own_examples_alone(runs, monkeypatch):
    _, stored = runs
    part = next(part for rows, part in example_parts(stored, 3 * 4 * 4 * (8 + 5)) if rows.start == 3)
    sizes = []
    cat = torch.cat
    monkeypatch.setattr(torch, "cat", lambda values, *rest: sizes.append(len(values)) or cat(values, *rest))
    assert len(part.states[1]) == 3
    assert sizes == [2], "of the batches that it lies in"


@pytest.mark.parametrize(
    "options", [("lens", {}), ("halting", {"rule": "kl"}), ("halting", {"rule": "latent"})]
)
def test_results_of_parts_are_those_of_all_at_once(runs, small, options):
    name, rest = options
    memory, stored = runs
    whole, parts = (ls.analyses.measure(name, run, **rest) for run in (memory, stored))
    assert differences(whole, parts, 0) == []


def test_the_answer_of_a_run_whose_output_was_left_out_is_decoded(runs, monkeypatch):
    memory, stored = runs
    monkeypatch.setattr(stored, "output", None)
    assert torch.allclose(ls.lens(stored).kl(), ls.lens(memory).kl(), atol=1e-5)


@pytest.mark.parametrize("stored", [False, True])
def test_of_states_that_fill_the_memory_the_first_examples_are_read(runs, stored, monkeypatch):
    monkeypatch.setattr(subset, "LARGE", 1)
    run = runs[stored]
    ls.analyses.module("lens")
    measure = sys.modules["loopscope.analyses.lens.measure"]  # the package has a function of this name
    monkeypatch.setattr(measure, "LEAST_EXAMPLES", 1)
    monkeypatch.setattr(measure, "MOST", 6 * 4 * (ITERATIONS + 1))
    result = ls.analyses.measure("lens", run)
    assert result.examples == 6
    assert "The first 6 of 10 examples were read, which are enough." in result.evidence.how
    few = ls.analyses.measure("lens", subset.select_examples(run, range(6)))
    assert torch.equal(result.kl, few.kl) and result.verdict is few.verdict
    every = torch.zeros(EXAMPLES, 4, dtype=torch.long)
    assert ls.analyses.measure("lens", run, facts={"nought": every}).examples == 10


def test_what_isnt_finite_is_found_in_parts_of_a_value(runs, monkeypatch):
    _, stored = runs
    monkeypatch.setattr(finite, "BLOCK", 1)
    assert stored.first_nonfinite() is None
    values = stored.states.by_index
    rows = values.rows

    def damaged(index, part):
        value = rows(index, part).clone()
        if index == (2,) and part.start <= 7 < part.stop:
            value[7 - part.start] = torch.inf
        return value

    monkeypatch.setattr(values, "rows", damaged)
    assert stored.first_nonfinite() == ("state", 2)
    mask = torch.ones(EXAMPLES, 4, dtype=torch.bool)
    mask[7] = False
    assert stored.with_mask(mask).first_nonfinite() is None
