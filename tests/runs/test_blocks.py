"""Blocks of a run's vectors: they cover every vector once, are no larger than asked, and what is
computed of them, joined, is what would be computed of all."""

import math
import subprocess
import sys
import threading

import pytest
import torch

from loopscope.common.errors import LoopscopeError
from loopscope.core.finite import all_finite, has_nan
from loopscope.core.states import States
from loopscope.maths.precision import spread_between
from loopscope.runs.blocks import Block, block_values, blocks_of, joined, spread_of_vectors
from loopscope.runs.chunked import PARALLEL, chosen_blocks, chunking, map_blocks

VALUES = torch.randn(4, 5, 3, 2, generator=torch.Generator().manual_seed(0))
"""(iteration, batch, position, width)"""


def states(values=VALUES, axes=("iteration", "batch", "position", "width")) -> States:
    return States("state", {(k,): value for k, value in enumerate(values)}, axes, len(values))


VECTOR = 8 * VALUES.shape[0] * VALUES.shape[3]
"""Bytes of one vector at every iteration, in double precision."""


@pytest.mark.parametrize("size", [1, VECTOR, 2 * VECTOR, 3 * VECTOR, 7 * VECTOR, 10**9])
def test_blocks_cover_every_vector_once_and_are_no_larger_than_asked(size: int):
    count = torch.zeros(5, 3)
    for block in blocks_of(states(), size):
        part = count[block.rows, block.positions]
        part += 1
        assert part.numel() * VECTOR <= max(size, VECTOR)
    assert (count == 1).all()


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((4, 5, 2), ("iteration", "batch", "width")), ((4, 3, 2), ("iteration", "position", "width"))],
)
def test_a_site_without_positions_or_examples_has_one(shape, axes):
    blocks = blocks_of(states(torch.zeros(shape), axes), 1)
    assert len(blocks) == shape[1]


def test_the_values_of_a_block_are_views_of_the_run_where_all_positions_count():
    every = torch.ones(5, 3, dtype=torch.bool)
    block = Block(slice(1, 3), slice(0, 3))
    values = block_values(states(), block, every)
    assert [value.tolist() for value in values] == VALUES[:, 1:3].flatten(1, 2).tolist()
    assert values[0].untyped_storage().data_ptr() == VALUES.untyped_storage().data_ptr()


def test_the_values_of_a_block_are_those_that_count():
    mask = torch.zeros(5, 3, dtype=torch.bool)
    mask[1, 2] = mask[2, 0] = True
    (value,) = block_values(states(), Block(slice(1, 3), slice(0, 3)), mask, [2])
    assert torch.equal(value, VALUES[2, [1, 2], [2, 0]])


@pytest.mark.parametrize("size", [1, 2 * VECTOR, 10**9])
def test_parts_are_joined_as_if_there_were_no_blocks(size: int):
    every = torch.ones(5, 3, dtype=torch.bool)

    def part(block: Block) -> dict[str, torch.Tensor]:
        x = VALUES[:, block.rows, block.positions].double()
        sums = {"place": (0, 3), "example": (2, 3), "position": (1, 3), "total": (1, 2)}
        return {name: x.sum(over) for name, over in sums.items()}

    axes = {
        "place": ("batch", "position"),
        "example": ("iteration", "batch"),
        "position": ("iteration", "position"),
        "total": ("iteration", "width"),
    }
    blocks = blocks_of(states(), size)
    whole = part(Block(slice(0, 5), slice(0, 3)))
    for order in (blocks, blocks[::-1]):
        result = joined(((block, part(block)) for block in order), (5, 3), axes)
        for name, value in whole.items():
            torch.testing.assert_close(result[name], value, rtol=1e-14, atol=1e-14)
    spread = spread_of_vectors(states(), 3, every, blocks)
    assert spread == pytest.approx(spread_between([VALUES[3].flatten(0, 1)]), rel=1e-14)


def test_the_spread_between_rows_has_zeros_for_what_is_not_finite():
    x = torch.tensor([[3.0, 4.0], [math.nan, math.inf]])
    assert spread_between([x[:1], x[1:]]) == spread_between([x]) == 2.5
    assert math.isnan(spread_between([x[:0]]))


# Who computes them


def _total(values: list[torch.Tensor]) -> float:
    return float(sum(value.double().sum() for value in values))


def _read(block: Block) -> list[torch.Tensor]:
    return block_values(states(), block, torch.ones(5, 3, dtype=torch.bool))


def test_threads_compute_at_the_same_time_and_give_results_in_order():
    both = threading.Barrier(2, timeout=20)

    def meets(values: list[torch.Tensor]) -> float:
        both.wait()
        assert torch.get_num_threads() == 1  # each thread has its core for itself
        return _total(values)

    before = torch.get_num_threads()
    with chunking("threads", 3 * VECTOR):
        blocks = chosen_blocks(states())[:4]
        results = map_blocks(meets, _read, blocks)
    assert [block for block, _ in results] == blocks
    assert [value for _, value in results] == [_total(_read(block)) for block in blocks]
    assert torch.get_num_threads() == before


def test_little_is_computed_without_threads():
    mine = threading.get_ident()
    with chunking(None, VECTOR):
        results = map_blocks(lambda values: threading.get_ident(), _read, chosen_blocks(states()))
    assert {one for _, one in results} == {mine}
    many = blocks_of(states(), VECTOR) * 2
    with chunking(None, PARALLEL):
        results = map_blocks(lambda values: threading.get_ident(), _read, many)
    assert mine not in {one for _, one in results}


@pytest.mark.parametrize("scheduler", [None, "threads"])
def test_a_block_that_fails_names_its_examples(scheduler):
    def fails(values: list[torch.Tensor]) -> None:
        if torch.equal(values[0], VALUES[0, 2:4].flatten(0, 1)):
            raise LoopscopeError("the states must be good, but are bad.")

    with (
        chunking(scheduler, 6 * VECTOR),
        pytest.raises(LoopscopeError, match="^examples 2 to 3 can't be measured: the states must be good"),
    ):
        map_blocks(fails, _read, chosen_blocks(states()))


def test_another_error_stays_what_it_is_and_notes_the_examples():
    def fails(values: list[torch.Tensor]) -> None:
        raise ZeroDivisionError("zero")

    with chunking("threads", VECTOR), pytest.raises(ZeroDivisionError) as caught:
        map_blocks(fails, _read, chosen_blocks(states()))
    (note,) = caught.value.__notes__
    assert note.startswith("This happened with example ")


def test_what_is_no_scheduler_is_said():
    with (
        chunking("nonsense", VECTOR),
        pytest.raises(
            LoopscopeError,
            match='scheduler must be "threads", "processes" or the address .*, but \'nonsense\'',
        ),
    ):
        map_blocks(_total, _read, chosen_blocks(states()))


def test_without_dask_little_and_much_is_computed_and_a_scheduler_is_refused(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] in ("dask", "distributed")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dask", None)
    blocks = blocks_of(states(), VECTOR)
    with chunking(None, PARALLEL):
        assert len(map_blocks(_total, _read, blocks)) == len(blocks)
    with (
        chunking("threads", VECTOR),
        pytest.raises(LoopscopeError, match=r'pip install "loopscope\[sweep\]"'),
    ):
        map_blocks(_total, _read, blocks)


@pytest.mark.slow
def test_processes_give_what_threads_give():
    code = (
        "from tests.runs.test_blocks import _read, _total, VECTOR, states\n"
        "from loopscope.runs.chunked import chosen_blocks, chunking, map_blocks\n"
        "def main():\n"
        "    results = []\n"
        "    for scheduler in ('threads', 'processes'):\n"
        "        with chunking(scheduler, VECTOR):\n"
        "            results.append(map_blocks(_total, _read, chosen_blocks(states())))\n"
        "    assert results[0] == results[1]\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_finite_numbers_are_told_from_others(dtype):
    x = torch.ones(3, 4, dtype=dtype)
    assert all_finite(x) and not has_nan(x) and all_finite(x[:0]) and not has_nan(x[:0])
    for value in (math.inf, -math.inf, math.nan):
        x[1, 2] = value
        assert not all_finite(x) and has_nan(x) == math.isnan(value)
    assert all_finite(torch.ones(2, dtype=torch.long)) and all_finite(torch.ones(2, dtype=torch.bool))
    assert not all_finite(torch.tensor([1j * math.inf]))
