"""Edits of the schedule compose in their order, as a loop that is run by hand in that order; what
could be meant in two ways is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import loopscope as ls
from loopscope.interventions.schedule import composed

from ..toys.edited_loop import TOKENS, EditedLoop, N

places = st.integers(-N, N - 1)
swaps = st.builds(ls.swap, places, places)
edits = st.lists(
    st.one_of(swaps, st.builds(ls.skip, places), st.builds(ls.repeat, places, st.integers(0, 3))), max_size=4
)


def by_hand(order):
    """The states of a loop whose place t runs the iteration indices order[t], one after the
    other."""
    model = EditedLoop().eval()
    context = model.encode(TOKENS)
    states = [model.initial(context)]
    for indices in order:
        state = states[-1]
        for index in indices:
            state = model.step(state, context, index)
        states.append(state)
    return torch.stack(states)


def order_of(several):
    """By place: the iteration indices that run there; None if two edits contradict each other."""
    order, edited = [[t] for t in range(N)], {}
    for edit in several:
        chosen = {place % N for place in edit.iterations}
        kind = "swap" if isinstance(edit, type(ls.swap(0, 1))) else id(edit)
        if any(edited.setdefault(place, kind) != kind for place in chosen):
            return None
        if kind == "swap":
            first, second = edit.first % N, edit.second % N
            order[first], order[second] = order[second], order[first]
        else:
            order[edit.iteration % N] *= edit.times
    return order


@given(st.lists(swaps, max_size=6))
@settings(max_examples=30)
def test_swaps_compose_as_permutations_in_their_order(several):
    order = order_of(several)
    assert sorted(index for place in order for index in place) == list(range(N)), "each index runs once"
    run = ls.record(EditedLoop().eval(), TOKENS, edits=several)
    assert torch.equal(run.states.tensor, by_hand(order))
    assert run.origin["edits"] == [str(edit) for edit in several]


@given(edits)
@settings(max_examples=60)
def test_a_schedule_is_what_a_hand_made_loop_in_its_order_gives_or_is_refused(several):
    order, model = order_of(several), EditedLoop().eval()
    if order is None:
        with pytest.raises(ls.LoopscopeError, match="skipped or repeated once at most"):
            ls.record(model, TOKENS, edits=several)
    else:
        assert torch.equal(ls.record(model, TOKENS, edits=several).states.tensor, by_hand(order))


@given(edits, st.integers(0, N - 1))
@settings(max_examples=25)
def test_a_resumed_run_follows_the_same_schedule(several, start):
    order = order_of(several)
    within = all(place % N >= start for edit in several for place in edit.iterations)
    if order is None or not within:
        return
    model = EditedLoop().eval()
    run = ls.resume(model, ls.record(model, TOKENS), N, start=start, edits=several)
    assert torch.equal(run.states.tensor, by_hand(order))


def test_two_swaps_that_meet_run_each_iteration_once():
    assert composed([ls.swap(1, 2), ls.swap(2, 3)], N).iteration_index == {1: 2, 2: 3, 3: 1}
    assert composed([ls.swap(2, 3), ls.swap(1, 2)], N).iteration_index == {2: 1, 3: 2, 1: 3}


@pytest.mark.parametrize(
    "several",
    [
        [ls.skip(2), ls.repeat(2)], [ls.repeat(2), ls.skip(2)], [ls.repeat(2), ls.repeat(2, 3)],
        [ls.skip(2), ls.skip(2 - N)], [ls.swap(1, 2), ls.skip(1)], [ls.repeat(3), ls.swap(3, 1)],
        [ls.repeat(2, times=1), ls.skip(2)],
    ],
    ids=lambda several: " and ".join(map(str, several)),
)  # fmt: skip
def test_two_edits_of_one_iteration_are_refused_by_name(several):
    with pytest.raises(ls.LoopscopeError, match="has two edits") as caught:
        ls.record(EditedLoop().eval(), TOKENS, edits=several)
    assert all(str(edit) in str(caught.value) for edit in several)
