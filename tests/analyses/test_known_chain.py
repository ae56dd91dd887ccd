"""What each analysis that speaks of steps says of loops whose inner steps were set by hand."""

import pytest
import torch

import loopscope as ls
from loopscope.analyses.lens.chain import chain_sentence  # pyright: ignore[reportMissingImports]
from loopscope.common import discovery
from loopscope.lenses.chain_matrix import ChainMatrix

from ..toys.planted_chain import AT_ONCE, IN_ORDER, SWAPPED, PlantedChain

MODULE = discovery.module("analyses", "lens")
TASK = ls.tasks.modular_chain(modulus=7, operations=5)
ORDERS = pytest.mark.parametrize("order", [IN_ORDER, SWAPPED, AT_ONCE])


def run_of(order, size=128):
    return ls.record(PlantedChain(TASK, order).eval(), TASK.batch(size, seed=0).tokens)


@ORDERS
def test_the_lens_reads_each_result_when_it_is_shown(order):
    result = ls.analyses.measure("lens", run_of(order))
    matrix = result.chain
    assert matrix.order == order
    torch.testing.assert_close(matrix.share[:, 1:], matrix.equal[:, [number - 1 for number in order]])
    said = {
        IN_ORDER: "chain in their order, one after each iteration: result 1 in 100 % after 1",
        SWAPPED: "chain, but not result k after k iterations: result 1 in 100 % after 2",
        AT_ONCE: "Of the 4 results before the answer the read-out doesn't show 4: ",
    }
    assert said[order] in str(result)
    assert result.verdict.name == ("at_once" if order == AT_ONCE else "changing")
    title = "Results on the way to the answer"
    panel = next(one for one in MODULE.panels(result) if one.title == title)
    assert panel.figure.data[0].z[1][order[0] - 1] == 1


def test_without_a_chain_or_enough_examples_the_lens_says_nothing_of_one():
    few = ls.record(PlantedChain(TASK).eval(), TASK.batch(20, seed=0, exactly=2).tokens)
    single = ls.record(PlantedChain(TASK).eval(), TASK.batch(20, seed=0, exactly=1).tokens)
    assert ls.analyses.measure("lens", few).chain.share.shape == (2, 6)
    for run in (single, ls.record(few.model, TASK.batch(3, seed=0, exactly=5).tokens)):
        result = ls.analyses.measure("lens", run)
        assert result.chain is None and "chain" not in str(result)
    inside = ls.record(few.model, few.tokens, sites="core_in")
    assert ls.analyses.measure("lens", inside, sites="core_in", check=False).chain is None


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


@pytest.mark.parametrize(
    ("share", "said"),
    [
        # an answer that is kept, and read a little more often later
        ([[0.97, 0, 0], [0, 0.97, 0.98], [0, 0, 0.96]], "in their order, one after each iteration"),
        ([[0, 0.97, 0], [0.97, 0, 0], [0, 0, 0.96]], "but not result k after k iterations"),
        ([[0.97, 0, 0], [0, 0.97, 0], [0, 0, 0.5]], "every result before the answer, but not the answer: "),
        (
            [[0.97, 0, 0], [0, 0.5, 0], [0, 0, 0.96]],
            "Of the 2 results before the answer the read-out doesn't",
        ),
    ],
)
def test_the_sentence_is_what_the_matrix_says(share, said):
    table = torch.tensor([[0.0, *row] for row in share], dtype=torch.float64)
    matrix = ChainMatrix(table, torch.eye(3, dtype=torch.float64), (0, 1, 2, 3), 100)
    assert said in chain_sentence(matrix)
