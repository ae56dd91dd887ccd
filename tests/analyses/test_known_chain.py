"""Loops whose inner steps were set by hand: what each analysis that speaks of steps says of them."""

import pytest
import torch

import loopscope as ls

from ..toys.planted_chain import AT_ONCE, IN_ORDER, SWAPPED, PlantedChain

TASK = ls.tasks.modular_chain(modulus=7, operations=5)
ORDERS = pytest.mark.parametrize("order", [IN_ORDER, SWAPPED, AT_ONCE])


def run_of(order, size=128):
    return ls.record(PlantedChain(TASK, order).eval(), TASK.batch(size, seed=0).tokens)


@ORDERS
def test_the_lens_reads_each_result_when_it_is_shown(order):
    run = run_of(order)
    chain = TASK.chain(run.tokens)
    facts = {f"result {j}": torch.where(chain.mask[j - 1], chain.result(j), -1) for j in range(1, 6)}
    read = ls.analyses.measure("lens", run, facts=facts)
    for j in range(1, 6):
        for k, number in enumerate(order, start=1):
            if number == j:
                assert read.first[f"result {j}"][0, k] == 1
    assert read.verdict.name == ("at_once" if order == AT_ONCE else "changing")


@ORDERS
def test_depth_grows_with_the_number_of_operations_unless_the_answer_comes_at_once(order):
    result = ls.analyses.measure("depth_use", run_of(order), max_inputs=0)
    assert result.verdict.name == ("same" if order == AT_ONCE else "later")
    settled = result.depths[0].mean_by_level
    if order == IN_ORDER:
        torch.testing.assert_close(settled, torch.arange(1.0, 6.0).double(), atol=0.25, rtol=0)
    if order == AT_ONCE:
        assert settled.max() <= 1


@pytest.mark.parametrize(
    "order", [SWAPPED, *(pytest.param(o, marks=pytest.mark.slow) for o in (IN_ORDER, AT_ONCE))]
)
def test_probes_find_each_result_at_its_iteration_and_at_no_other(order):
    result = ls.analyses.measure("probes", run_of(order), examples=600)
    for j in range(1, 5):
        value = result.facts[f"value {j}"]
        shown = [k for k, number in enumerate(order, start=1) if number == j]
        assert list(value.learned) == shown
        if shown:
            assert value.formed == shown[0] and value.score[shown[0]] > 0.95
    assert result.facts["answer"].formed == order.index(5) + 1
