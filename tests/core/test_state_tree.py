"""Functions over a state that is one tensor or a named tuple of tensors."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from loopscope.core import looped_model, state_tree


class Pair(NamedTuple):
    h: Tensor
    count: Tensor
    mass: Tensor


@pytest.fixture
def pair():
    return Pair(torch.arange(12.0).reshape(2, 3, 2), torch.tensor([3, 4]), torch.tensor([0.5, 0.25]))


def test_names_and_tensors(pair):
    assert state_tree.field_names(pair) == ("h", "count", "mass")
    assert state_tree.field_names(pair.h) == ()
    assert list(state_tree.items(pair)) == ["h", "count", "mass"]
    assert list(state_tree.items(pair.h)) == ["state"]
    assert [x is y for x, y in zip(state_tree.tensors(pair), pair, strict=True)] == [True] * 3
    assert state_tree.primary(pair) is pair.h is state_tree.primary(pair.h)
    assert looped_model.primary is state_tree.primary


def test_floats_leave_counters_out(pair):
    assert list(state_tree.float_items(pair)) == ["h", "mass"]
    doubled = state_tree.with_floats(pair, [part.double() for part in state_tree.floats(pair)])
    assert [part.dtype for part in doubled] == [torch.float64, torch.int64, torch.float64]
    assert state_tree.with_floats(pair.h, [pair.h + 1]).equal(pair.h + 1)
    with pytest.raises(ValueError):
        state_tree.with_floats(pair, [pair.h])


def test_map_keeps_the_form_and_takes_several_states(pair):
    total = state_tree.map_state(torch.add, pair, pair)
    assert isinstance(total, Pair) and all(a.equal(2 * b) for a, b in zip(total, pair, strict=True))
    assert state_tree.map_state(torch.add, pair.h, pair.h).equal(2 * pair.h)


def test_from_tensors_undoes_tensors(pair):
    for state in (pair, pair.h):
        again = state_tree.from_tensors(state, state_tree.tensors(state))
        assert type(again) is type(state) and state_tree.equal(again, state)


def test_parts_are_replaced_by_name(pair):
    other = state_tree.with_items(pair, {"mass": torch.ones(2)})
    assert other.h is pair.h and other.mass.equal(torch.ones(2)) and not state_tree.equal(other, pair)
    assert state_tree.with_primary(pair, pair.h + 1).h.equal(pair.h + 1)
    assert state_tree.with_primary(pair.h, pair.h + 1).equal(pair.h + 1)


def test_rows(pair):
    for rows in (slice(1, 2), [1], torch.tensor([False, True])):
        one = state_tree.select_rows(pair, rows)
        assert [len(part) for part in one] == [1, 1, 1] and one.h[0].equal(pair.h[1])
    twice = state_tree.repeat_rows(pair, 2)
    assert twice.count.tolist() == [3, 4, 3, 4] and twice.h[2:].equal(pair.h)
    assert state_tree.repeat_rows(pair.h, 2).shape == (4, 3, 2)


def test_detach(pair):
    x = pair.h.requires_grad_()
    assert not state_tree.primary(state_tree.detach(pair)).requires_grad
    assert not state_tree.detach(x * 2).requires_grad


def test_sites_see_their_own_tensor(pair):
    class Plus(nn.Module):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

        def forward(self, x: Tensor) -> Tensor:
            return x + self.number

    site = Plus(1)
    site.add_module("mass", Plus(3))
    site.add_module("count", Plus(2))
    passed = state_tree.through_sites(pair, site)
    assert [float((a - b).flatten()[0]) for a, b in zip(passed, pair, strict=True)] == [1, 2, 3]
    assert state_tree.through_sites(pair.h, site).equal(pair.h + 1)
