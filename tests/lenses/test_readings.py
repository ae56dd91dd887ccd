"""The measures of readings, on loops whose logits are known in closed form."""

import math

import pytest
import torch
from torch import nn

import loopscope as ls

from ..toys.table_loop import Planted
from ..toys.turning_logits import C, N, V, planted, turning

# Closed forms


def test_ranks_probabilities_and_margins_are_those_of_logits_that_turn():
    read = ls.lens(turning(), "coda")
    norm = sum(math.exp(-C * r) for r in range(V))
    for token in range(V):
        place = torch.tensor([(token - k) % V for k in range(N + 1)], dtype=torch.float64)
        every = place[None, :, None, None].expand(1, N + 1, 2, 3)
        assert torch.equal(read.rank(token), every + 1)
        assert torch.allclose(read.probability(token), (-C * every).exp() / norm)
        assert torch.allclose(read.margin(token), torch.where(every == 0, C, -C * every))


def test_entropy_and_kl_are_those_of_logits_that_turn():
    read = ls.lens(turning(), "coda")
    p = torch.softmax(-C * torch.arange(V, dtype=torch.float64), 0)
    assert torch.allclose(read.entropy(), (-(p * p.log()).sum()).expand(1, N + 1, 2, 3))
    for k in range(N + 1):
        # token (i + N) mod V has p[i] at the end, and stands at (i + N - k) mod V after k
        far = sum(float(p[i]) * C * ((i + N - k) % V - i) for i in range(V))
        assert torch.allclose(read.kl()[0, k], torch.full((2, 3), far, dtype=torch.float64)), (
            "KL(final ‖ reading), and not the other way round"
        )


def test_answers_flip_at_every_turn_and_settle_with_the_last():
    read = ls.lens(turning(), "coda")
    assert read.answers()[0, :, 0, 0].tolist() == list(range(N + 1))
    assert read.flips()[0, :, 0, 0].tolist() == [False] + [True] * N
    assert (read.settling_iteration() == N).all()


def test_top_tokens_come_likeliest_first():
    ids, p = ls.lens(turning(), "coda").top(3)
    assert ids[0, 2, 0, 0].tolist() == [2, 3, 4]
    assert (p.diff(dim=-1) < 0).all()


def test_an_answer_settles_after_its_last_change_and_not_before():
    said = torch.tensor([[0, 1, 1, 2, 2, 2], [3, 3, 3, 3, 3, 3], [0, 1, 0, 1, 0, 1], [0, 1, 2, 0, 0, 0]])
    read = ls.lens(planted(5.0 * nn.functional.one_hot(said.T, 4)[:, :, None]), "coda")
    assert read.settling_iteration()[0, :, 0].tolist() == [3, 0, 5, 3]
    assert read.flips()[0].sum(0)[:, 0].tolist() == [2, 0, 5, 3]


def test_tokens_are_followed_for_all_for_each_example_or_at_each_position():
    read = ls.lens(turning(batch=2, positions=3), "coda")
    assert torch.equal(read.rank(torch.tensor([1, 4]))[0, 0], torch.tensor([[2.0] * 3, [5.0] * 3]).double())
    ids = torch.tensor([[0, 1, -1], [2, -1, 6]])
    result = read.rank(ids)[0, 0]
    assert torch.equal(result[ids >= 0], torch.tensor([1.0, 2, 3, 7]).double())
    assert result[ids < 0].isnan().all(), "where there is nothing to follow there is nothing"


def test_equal_logits_are_ranked_as_the_answer_takes_them():
    read = ls.lens(planted(torch.zeros(2, 1, 1, 4)), "coda")
    assert [float(read.rank(t)[0, 0, 0, 0]) for t in range(4)] == [1, 2, 3, 4]
    assert read.answers()[0, 0, 0, 0] == 0


def test_what_is_never_said_adds_nothing_to_the_divergence():
    class Masked(Planted):
        def decode(self, state, context):
            return torch.cat([state, torch.full_like(state[..., :1], -math.inf)], -1)

    model = Masked(torch.tensor([[0.0, 0.0], [2.0, 0.0]])[:, None, None]).eval()
    read = ls.lens(ls.record(model, torch.zeros(1, 1, dtype=torch.long)), "coda")
    p = torch.softmax(torch.tensor([2.0, 0.0]).double(), 0)
    assert float(read.kl()[0, 0]) == pytest.approx(float((p * (p / 0.5).log()).sum()))
    assert float(read.rank(2)[0, 0]) == 3 and float(read.probability(2)[0, 1]) == 0


# Many rows at once


def test_readings_in_pieces_are_the_readings_at_once(monkeypatch):
    run = planted(torch.randn(4, 9, 5, 11, generator=torch.Generator().manual_seed(0)))
    read = ls.lens(run, "coda")
    whole = (read.kl(), read.rank(torch.arange(9)), read.top(2)[0])
    monkeypatch.setattr(ls.lenses.readings, "CHUNK", 2 * 5 * 11)
    for one, other in zip(whole, (read.kl(), read.rank(torch.arange(9)), read.top(2)[0]), strict=True):
        assert torch.equal(one, other)
