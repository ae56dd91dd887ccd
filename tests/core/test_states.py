"""States are indexed as in Python, keep the numbers of iterations, and fill in no absent values."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import loopscope as ls


def counted(n=5, absent=(), batch=2, positions=3):
    """states[k] is filled with k."""
    values = {(k,): torch.full((batch, positions, 1), float(k)) for k in range(n) if k not in absent}
    return ls.States("state", values, ("iteration", "batch", "position", "width"), n)


@given(st.integers(-5, 4))
def test_an_int_drops_the_axis_and_negative_ones_count_from_the_end(k):
    assert counted()[k].shape == (2, 3, 1) and (counted()[k] == range(5)[k]).all()


@given(st.slices(5))
def test_a_slice_keeps_the_axis_and_the_iterations_true_numbers(part):
    chosen = counted()[part]
    assert isinstance(chosen, ls.States) and chosen.iterations == list(range(5)[part])
    assert len(chosen) == len(range(5)[part])
    for i, k in enumerate(range(5)[part]):
        assert (chosen[i] == k).all()


def test_what_follows_the_iteration_indexes_the_tensor():
    states = counted()
    assert states[3, 0].shape == (3, 1) and states[1:3, :, 0].shape == (2, 2, 1)


def test_absent_iterations_are_left_out_and_never_made_up():
    states = counted(absent=(1, 2))
    assert states.iterations == [0, 3, 4] and states.shape == (3, 2, 3, 1)
    assert states.tensor[:, 0, 0, 0].tolist() == [0, 3, 4]
    with pytest.raises(
        ls.LoopscopeIndexError, match=r"'state' has no value at iteration 2: .* Present: 0, 3, 4"
    ):
        states[2]


def test_an_iteration_beyond_the_run_is_a_sentence():
    with pytest.raises(
        ls.LoopscopeIndexError, match=r"iteration 40 was requested, but this run has 0..4\. Record more"
    ):
        counted()[40]
    with pytest.raises(ls.LoopscopeError, match=r"indexed by an iteration .* but got 'last'"):
        counted()["last"]


def test_at_selects_along_named_axes():
    states = counted()
    assert states.at(position=-1).axes == ("iteration", "batch", "width")
    assert states.at(position=[0, 2], batch=slice(0, 1)).shape == (5, 1, 2, 1)
    with pytest.raises(ls.LoopscopeError, match=r"no axis 'positon'. Did you mean 'position'\?"):
        states.at(positon=1)
    with pytest.raises(ls.LoopscopeIndexError, match=r"\(2, 3, 1\)"):
        states.at(position=7)


def test_differences_say_what_each_iteration_changed():
    assert (counted().differences().tensor == 1).all() and len(counted().differences()) == 4
    assert counted(absent=(1,)).differences().iterations == [2, 3]
    with pytest.raises(ls.LoopscopeError, match="two iterations next to each other"):
        counted(absent=(1, 3)).differences()


def test_iterating_gives_what_is_present():
    assert [int(state.max()) for state in counted(absent=(2,))] == [0, 1, 3, 4]


def test_a_turn_of_an_inner_loop_that_never_ran_is_nan():
    values = {(0, 0): torch.zeros(2), (0, 1): torch.ones(2), (1, 0): torch.zeros(2)}
    states = ls.States("low", values, ("iteration", "low", "batch"), 2)
    assert states.shape == (2, 2, 2) and states[1][1].isnan().all() and not states[0].isnan().any()


def test_to_xarray_names_dimensions_and_iterations():
    array = counted(absent=(1,))[1:].to_xarray()
    assert array.dims == ("iteration", "batch", "position", "width")
    assert array.iteration.values.tolist() == [2, 3, 4] and float(array.sel(iteration=3).mean()) == 3.0


def test_the_printed_form_says_shape_axes_type_and_size():
    assert repr(counted()) == "States 5 × (2, 3, 1) · iteration batch position width · float32 · 0.0 MB"
