"""Hops along permutations: the answer is the permutation's power, whatever way it is written
down."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loopscope import tasks
from loopscope.common.errors import LoopscopeError


@st.composite
def chases(draw):
    arrows = draw(st.permutations(range(draw(st.integers(2, 9)))))
    return arrows, draw(st.integers(0, len(arrows) - 1)), draw(st.integers(1, 32))


@given(chase=chases(), data=st.data())
@settings(max_examples=100)
def test_the_answer_is_the_power_of_the_permutation(chase, data):
    arrows, start, hops = chase
    there = start
    for _ in range(hops):
        there = arrows[there]
    n = len(arrows)
    listed = torch.tensor([[*arrows, start, n + hops - 1]])
    assert tasks.hops(nodes=n).solve(listed)[0].tolist() == [*arrows, start, there]
    order = data.draw(st.permutations(range(n)))
    paired = torch.tensor([[*(x for a in order for x in (a, arrows[a])), start, n + hops - 1]])
    assert tasks.hops(nodes=n, pairs=True).solve(paired)[0, -1] == there


def test_hops_add_up():
    """h hops, and g hops from there, are h + g hops."""
    task = tasks.hops(nodes=7, hops=9)
    tokens = task.batch(200, seed=1).tokens
    there = task.solve(tokens)[:, -1]
    on = tokens.clone()
    on[:, -2], on[:, -1] = there, 7 + 4 - 1
    whole = tokens.clone()
    whole[:, -1] += 4
    assert torch.equal(task.solve(on)[:, -1], task.solve(whole)[:, -1])


@pytest.mark.parametrize("pairs", [False, True])
def test_a_path_begins_at_the_start_follows_the_arrows_and_passes_the_answer(pairs):
    batch = tasks.hops(nodes=5, hops=6, pairs=pairs).batch(100, seed=4)
    assert isinstance(batch, tasks.HopsBatch)
    assert batch.path.shape == (100, 7)
    for tokens, path, hops, targets in zip(
        batch.tokens.tolist(), batch.path.tolist(), batch.difficulty.tolist(), batch.targets, strict=True
    ):
        arrows = (
            dict(zip(tokens[0:10:2], tokens[1:10:2], strict=True)) if pairs else dict(enumerate(tokens[:5]))
        )
        assert path[0] == tokens[-2]
        assert all(arrows[a] == b for a, b in zip(path, path[1:], strict=False))
        assert path[int(hops)] == targets[-1]


def test_a_chase_written_by_hand():
    for task, text in (
        (tasks.hops(nodes=4), "2 0 3 1 1 h3"),
        (tasks.hops(nodes=4, pairs=True), "2 3 0 2 3 1 1 0 1 h3"),
    ):
        tokens = torch.tensor([[task.symbols.index(symbol) for symbol in text.split()]])
        assert task.render(tokens) == [text]
        assert task.render(task.solve(tokens)) == [text.replace("h3", "3")]
        assert task.mask(tokens).nonzero().tolist() == [[0, tokens.shape[1] - 1]]


def test_hops_are_drawn_evenly_up_to_the_largest_or_exactly():
    task = tasks.hops(nodes=8, hops=4)
    counts = task.batch(4000, seed=0).difficulty
    assert all(abs(int((counts == h).sum()) - 1000) < 120 for h in (1, 2, 3, 4))
    assert task.batch(400, seed=0, hops=20).difficulty.max() == 20
    assert task.batch(50, seed=0, exactly=13).difficulty.unique().tolist() == [13]
    assert tasks.hops(exactly=2).batch(50, seed=0).difficulty.unique().tolist() == [2]


def test_permutations_are_drawn_evenly():
    tokens = tasks.hops(nodes=4, hops=32).batch(12_000, seed=0, split="train").tokens
    seen, counts = tokens[:, :4].unique(dim=0, return_counts=True)
    assert len(seen) == 24
    assert (counts - 500).abs().max() < 120


def test_the_same_arrows_in_another_order_are_on_the_same_side():
    task = tasks.hops(nodes=6, pairs=True)
    tokens = task.batch(300, seed=0).tokens
    shuffled = tokens.clone()
    shuffled[:, :12] = tokens[:, :12].view(-1, 6, 2).flip(1).flatten(1)
    assert not torch.equal(tokens, shuffled)
    assert task.is_test(shuffled).all()
    listed = tasks.hops(nodes=6)
    arrows = torch.stack([dict_list(row) for row in tokens[:, :12].tolist()])
    assert listed.is_test(torch.cat([arrows, tokens[:, 12:]], dim=1)).all()


def dict_list(row):
    arrows = dict(zip(row[0::2], row[1::2], strict=True))
    return torch.tensor([arrows[a] for a in sorted(arrows)])


def test_tokens_that_are_no_chase():
    for tokens in ([0, 1, 2, 3, 0], [0, 1, 1, 3, 0, 4], [0, 1, 2, 3, 4, 4], [0, 1, 2, 3, 0, 0]):
        with pytest.raises(
            LoopscopeError, match="needs a permutation of 4 nodes, where the arrows of nodes 0, 1, ... lead"
        ):
            tasks.hops(nodes=4).solve(torch.tensor([tokens]))
    with pytest.raises(LoopscopeError, match=r"needs a permutation of 2 nodes, its pairs \(from, to\)"):
        tasks.hops(nodes=2, pairs=True).mask(torch.tensor([[0, 1, 0, 0, 0, 2]]))


def test_options_that_are_none():
    with pytest.raises(
        LoopscopeError, match="exactly must be at most 32, the last number that has a token, but is 33"
    ):
        tasks.hops(exactly=33)
    with pytest.raises(LoopscopeError, match="pairs must be True or False, but is 1"):
        tasks.hops(pairs=1)
    with pytest.raises(LoopscopeError, match="nodes must be a whole number, 2 or more"):
        tasks.hops(nodes=1)
