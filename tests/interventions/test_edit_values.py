"""The value of an edit fits in one way, and arrives as it was given, but for rounding."""

import itertools

import numpy as np
import pytest
import torch

import loopscope as ls

from ..toys.edited_loop import BATCH, POSITIONS, TOKENS, WIDTH, EditedLoop

FULL = torch.arange(float(BATCH * POSITIONS * WIDTH), dtype=torch.float64).reshape(BATCH, POSITIONS, WIDTH)
MAKE = {"patch": ls.patch, "add": ls.add}


def state_with(value, kind="patch", dtype=torch.float64, **where):
    """states[2] of a run whose state there was zero, after an edit with this value."""
    model = EditedLoop().eval()
    model.before.register_forward_hook(lambda module, args, output: output.to(dtype))
    cleared = [ls.ablate("state", iteration=2)]
    run = ls.record(
        model, TOKENS, 2, edits=[*cleared, MAKE[kind]("state", value=value, iteration=2, **where)]
    )
    return run.states[2]


VALUES = {
    "float": (0.1, 0.1), "int": (3, 3), "bool": (True, 1.0), "numpy float": (np.float64(0.1), 0.1),
    "numpy int": (np.int32(3), 3), "list": ([0.1] * WIDTH, 0.1), "tuple": ((0.1,) * WIDTH, 0.1),
    "nested": ([[0.1] * WIDTH] * POSITIONS, 0.1), "range": (range(WIDTH), torch.arange(WIDTH).double()),
    "array": (np.full(WIDTH, 0.1), 0.1), "half": (torch.full((WIDTH,), 0.5).half(), 0.5),
    "float32": (torch.full((WIDTH,), 0.5), 0.5), "ints": (torch.ones(WIDTH, dtype=torch.int8), 1.0),
    "whole": (FULL, FULL), "array of all": (FULL.numpy(), FULL), "0-d": (torch.tensor(2.0), 2.0),
    "nan": (float("nan"), float("nan")), "inf": (-float("inf"), -float("inf")),
}  # fmt: skip


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.filterwarnings("ignore::loopscope.common.errors.LoopscopeWarning")
def test_numbers_of_every_kind_arrive_with_all_their_digits(name, kind):
    value, expected = VALUES[name]
    expected = torch.as_tensor(expected, dtype=torch.float64).expand(BATCH, POSITIONS, WIDTH)
    assert torch.equal(state_with(value, kind).nan_to_num(7.0), expected.nan_to_num(7.0))


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize(
    "value",
    ["a", b"a", None, {}, {"h": 1}, {1}, object(), ls.skip(1), ["a"], [None], [[1], [1, 2]], iter([1.0]),
     np.array(["a"]), np.array([object()]), torch.eye(3).to_sparse(), torch.ones(3, device="meta"), ls.patch],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_holds_no_numbers_is_no_value(value, kind):
    with pytest.raises(ls.LoopscopeError, match="the value of an edit must be a"):
        MAKE[kind](value=value)


def test_states_and_runs_are_no_values():
    run = ls.record(EditedLoop().eval(), TOKENS)
    for value in (run, run.states, run.logits):
        with pytest.raises(ls.LoopscopeError, match=r"such as donor.states\[3\]"):
            ls.patch(value=value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", MAKE)
def test_a_value_is_rounded_to_the_sites_dtype_and_no_further(kind, dtype):
    value = torch.linspace(0.1, 0.7, WIDTH, dtype=torch.float64)
    assert torch.equal(state_with(value, kind, dtype)[1, 2], value.to(dtype))
    with pytest.raises(ls.LoopscopeError, match="the site holds real numbers .* complex"):
        state_with(value * 1j, kind, dtype)
    if dtype != torch.float64:
        with pytest.raises(ls.LoopscopeError, match=r"can't hold 1e\+300"):
            state_with(1e300, kind, dtype)


SIZES = [(4, 5, 6), (4, 4, 6), (4, 5, 5), (5, 4, 5), (4, 4, 4), (1, 4, 4)]


def readings(shape, value):
    """How a value with fewer axes than (batch, position, width) may lie along them."""
    sizes = [size for size in value if size > 1]
    return [
        axes
        for axes in itertools.combinations(range(3), len(sizes))
        if all(shape[axis] == size for axis, size in zip(axes, sizes, strict=True))
    ]


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("kind", MAKE)
def test_a_value_that_fits_in_two_ways_is_refused_and_one_that_fits_in_one_is_not(shape, kind):
    whole = torch.zeros(shape, dtype=torch.float64)
    for value in {(a, b) for a in (1, *shape) for b in (1, *shape)}:
        drawn = torch.rand(value, dtype=torch.float64)
        edit = MAKE[kind]("state", value=drawn)
        fits = all(size in (1, wanted) for size, wanted in zip(value, shape[1:], strict=True))
        if not fits:
            with pytest.raises(ls.LoopscopeError, match="must have the site's shape"):
                edit.apply(whole, ("batch", "position", "width"))
        elif len(readings(shape, value)) > 1:
            with pytest.raises(ls.LoopscopeError, match="ways. Give it all axes"):
                edit.apply(whole, ("batch", "position", "width"))
        else:
            assert torch.equal(edit.apply(whole, ("batch", "position", "width")), drawn.expand(shape))
    vector = torch.rand(shape[-1], dtype=torch.float64)  # a direction lies along the width
    edited = MAKE[kind]("state", value=vector).apply(whole, ("batch", "position", "width"))
    assert torch.equal(edited, vector.expand(shape))


def test_the_ways_to_be_clear_are_named_and_are_clear():
    whole, square = torch.zeros(4, 4, 6), torch.rand(4, 6)
    with pytest.raises(
        ls.LoopscopeError, match=r"\(4, 1, 6\) \(batch and width\) or \(1, 4, 6\) \(position and"
    ):
        ls.patch(value=square).apply(whole, ("batch", "position", "width"))
    rows = ls.patch(value=square[:, None]).apply(whole, ("batch", "position", "width"))
    columns = ls.patch(value=square[None]).apply(whole, ("batch", "position", "width"))
    assert torch.equal(rows[:, 2], square) and torch.equal(columns[2], square)
    with pytest.raises(ls.LoopscopeError, match="in 2 ways"):
        ls.patch(value=torch.rand(5)).apply(torch.zeros(2, 3, 5, 5), ("batch", "head", "position", "key"))


def test_a_part_takes_its_own_shape_or_the_sites():
    axes = ("batch", "position", "width")
    whole, full = torch.zeros(BATCH, POSITIONS, WIDTH, dtype=torch.float64), FULL
    for value in (full, full[:, -1], full[:, -1:], full[:, -1:].expand_as(full)):
        edited = ls.patch(value=value, position=-1).apply(whole, axes)
        assert torch.equal(edited[:, -1], full[:, -1]) and not edited[:, :-1].any()
    for value in (full, full[:, [3, 0]]):
        edited = ls.patch(value=value, position=[3, 0]).apply(whole, axes)
        assert torch.equal(edited[:, [3, 0]], full[:, [3, 0]]) and not edited[:, [1, 2, 4]].any()
    with pytest.raises(ls.LoopscopeError, match="fits in two ways"):
        ls.patch(value=full, position=[1, 0, 2, 3, 4]).apply(whole, axes)
    with pytest.raises(ls.LoopscopeError, match="names an index twice"):
        ls.add(value=full[:, [0, 0]], position=[0, -5]).apply(whole, axes)


def test_a_whole_state_is_a_value_of_the_state_alone():
    parts = (torch.zeros(2, 3), torch.ones(2, 3))
    with pytest.raises(ls.LoopscopeError, match=r"state has 1 tensor\(s\)"):
        ls.record(EditedLoop().eval(), TOKENS, edits=ls.patch(value=parts, iteration=1))
    with pytest.raises(ls.LoopscopeError, match="is a whole state, which 'state' takes and no other site"):
        ls.record(EditedLoop().eval(), TOKENS, edits=ls.patch("hook_low", value=parts))
