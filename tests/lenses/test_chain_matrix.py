"""The matrix of results by iterations: on loops that show known results."""

import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.lenses import chain_matrix

from ..toys.planted_chain import AT_ONCE, IN_ORDER, SWAPPED, PlantedChain

TASK = ls.tasks.modular_chain(modulus=7, operations=5)


def matrix(order, iterations=5, **options):
    model = PlantedChain(TASK, order).eval()
    return chain_matrix(ls.record(model, TASK.batch(200, seed=0, **options).tokens, iterations))


@pytest.mark.parametrize("order", [IN_ORDER, SWAPPED, AT_ONCE])
def test_each_iteration_reads_the_result_that_it_shows_and_others_where_they_are_equal(order):
    read = matrix(order, exactly=5)
    assert read.order == order and read.items == 200
    torch.testing.assert_close(read.share[:, 1:], read.equal[:, [number - 1 for number in order]])
    off = ~torch.eye(5, dtype=torch.bool)
    assert (read.equal[off] < 0.3).all() and (read.equal.diagonal() == 1).all()
    if order == IN_ORDER:
        assert read.diagonal.min() == 1 and read.off_diagonal.max() < 0.3
    else:
        assert read.diagonal.min() < 0.3 and read.off_diagonal.max() == 1


def test_only_examples_with_every_result_count():
    read = matrix(IN_ORDER)
    assert 20 < read.items < 60, "about a fifth of them"
    assert read.diagonal.min() == 1 and read.off_diagonal.max() < 0.5


def test_a_shorter_run_leaves_results_unread():
    read = matrix(IN_ORDER, iterations=3, exactly=5)
    assert read.diagonal[:3].min() == 1 and read.diagonal[3:].isnan().all()
    assert "result 5" in str(read) and "k = 0, 1, 2, 3" in str(read)


def test_without_a_chain_there_is_no_matrix():
    task = ls.tasks.prefix_parity(length=6)
    model = ls.models.build("universal", vocabulary=3, width=8, heads=2, iterations=2).eval()
    model.task = task
    with pytest.raises(LoopscopeError, match="needs a run of examples of a task with a chain of results"):
        chain_matrix(ls.record(model, task.batch(4, seed=0).tokens))
