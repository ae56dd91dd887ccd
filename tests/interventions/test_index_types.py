"""Whatever kind of number, range, array or mask selects, an edit does what its canonical form does,
or it is refused with a sentence."""

import re

import numpy as np
import pytest
import torch

import loopscope as ls
from loopscope.interventions.edits import Edit

from ..toys.edited_loop import SIZES, TOKENS, EditedLoop

MODEL = EditedLoop().eval()
SITES = {
    "iteration": "hook_low", "low": "hook_low", "batch": "hook_low", "position": "hook_low",
    "width": "hook_low", "head": "attn.hook_z",
}  # fmt: skip
"""By axis, a site that has it."""
KINDS = {
    "patch": lambda site, **where: ls.patch(site, value=0.5, **where),
    "zero": ls.ablate,
    "mean": lambda site, **where: ls.ablate(site, how="mean", **where),
    "add": lambda site, **where: ls.add(site, value=[0.25], scale=3, **where),
}


def result(*edits):
    """The output of a run with these edits, and how it says that it was made."""
    run = ls.record(MODEL, TOKENS, edits=edits)
    return run.output, run.origin["edits"]


def refused(make, selector):
    """Whether an edit with this selector is refused with a sentence, when made or when recorded."""
    try:
        result(make(selector))
    except ls.LoopscopeError as error:
        return len(str(error)) > 30
    return False


def numbers(n):
    """Numbers in every form, of which the first is the canonical one."""
    return [n, np.int64(n), np.int8(n), np.array(n), torch.tensor(n), torch.tensor(n, dtype=torch.int16)]


def lists(chosen, size):
    """Lists of numbers in every form, the canonical one first."""
    mask = [place in chosen for place in range(size)]
    masks = [mask, tuple(mask), np.array(mask), torch.tensor(mask), [np.bool_(one) for one in mask]]
    arrays = [tuple(chosen), np.array(chosen), torch.tensor(chosen), torch.tensor(chosen, dtype=torch.int32)]
    mixed = [[np.int64(one) for one in chosen], [torch.tensor(one) for one in chosen]]
    steps = [range(chosen[0], chosen[-1] + 1, chosen[1] - chosen[0])] if len(chosen) == 2 else []
    return [chosen, *arrays, *mixed, *masks, *steps]


def slices(start, stop):
    return [slice(start, stop), slice(np.int64(start), torch.tensor(stop)), range(start, stop)]


def forms(axis):
    """Groups of selectors that mean the same."""
    size = SIZES[axis]
    groups = [
        numbers(1),
        lists([0, size - 1], size),
        lists([1], size),
        slices(0, 2),
        [..., slice(None), None],
    ]
    return (
        groups if axis == "low" else [*groups, numbers(-1), [size - 1, -1], [slice(1, None), slice(1, size)]]
    )


@pytest.mark.parametrize("axis", SITES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_form_of_a_selector_does_what_its_canonical_form_does(kind, axis):
    for group in forms(axis):
        expected, _ = result(KINDS[kind](SITES[axis], **{axis: group[0]}))
        for form in group[1:] if kind == "add" else group[len(group) // 2 :: 4]:
            output, _ = result(KINDS[kind](SITES[axis], **{axis: form}))
            assert torch.equal(output, expected), (form, group[0])


def test_the_text_of_an_edit_names_what_a_mask_selects():
    for form in lists([0, 4], 5)[:-1]:
        assert str(ls.ablate("state", position=form)) == "zero of 'state' at position=[0, 4]"
    assert str(ls.ablate("state", position=range(40))).endswith("[0, 1, 2, 3, ..., 38, 39] (40 in all)")
    assert str(ls.ablate("state", iteration=np.int64(3), low=torch.tensor(1))) == (
        "zero of 'state' at iteration=3, low=1"
    )


def named(value):
    """A value as the name of a test: without its address in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def bad(axis):
    """What selects nothing along an axis."""
    size = SIZES[axis]
    return [
        1.0, 1.5, float("nan"), True, np.bool_(True), torch.tensor(True), np.float32(1), torch.tensor(1.0),
        "1", "all", b"1", object(), {1: 2}, {1}, iter([1]), [1.5], [True, 1], [[0]], ["0"], [None], 1j,
        np.zeros((2, 2), int), torch.zeros(2, 2), np.array([0.0]), torch.ones(size), lambda: 1,
        slice(1.5), slice(True, None), slice("a"), slice(0, 4, 0), slice(99, None), slice(3, 1),
        torch.tensor(1, device="meta"), torch.ones(2, dtype=int, device="meta"), torch.tensor([]),
        [], (), range(0), np.array([], int), [False] * size, torch.zeros(size, dtype=torch.bool),
        size + 1, 99, -99, 1 << 70, -(1 << 70), [0, 99], [0, -99], range(90, 99),
        [True] * (size + 2), [True], torch.ones(size + 3, dtype=torch.bool),
    ]  # fmt: skip


@pytest.mark.parametrize("axis", SITES)
@pytest.mark.parametrize("kind", [*KINDS, "direct"])
def test_what_selects_nothing_is_refused_with_a_sentence(kind, axis):
    make = KINDS.get(
        kind, lambda site, **where: Edit(site, "zero", None, where.pop("iteration", None), where)
    )
    for selector in bad(axis):
        assert refused(lambda selector: make(SITES[axis], **{axis: selector}), selector), selector


def test_freezing_takes_numbers_of_every_kind():
    expected, texts = result(ls.freeze("state", iteration=2, position=[0, 3]))
    for form in numbers(2):
        output, same = result(ls.freeze("state", iteration=form, position=np.array([0, 3])))
        assert torch.equal(output, expected) and same == texts
    assert torch.equal(result(ls.freeze("state", iteration=-4, position=[0, 3]))[0], expected)
    for form in lists([3, 0], 5)[:4]:  # in another order, the same is held
        assert torch.equal(result(ls.freeze("state", iteration=slice(2, None), position=form))[0], expected)


@pytest.mark.parametrize(
    "wrong", [*bad("iteration"), [1], slice(-99, 3), slice(0, 4, 2), slice(2, 2)], ids=named
)
def test_freezing_from_what_is_no_iteration_is_refused(wrong):
    if wrong is None:
        return
    with pytest.raises(ls.LoopscopeError):
        result(ls.freeze("state", iteration=wrong))


SCHEDULES = {
    "skip": ls.skip,
    "repeat": ls.repeat,
    "swap": lambda t: ls.swap(t, 4),
    "halt_at": ls.halt_at,
    "bias_halting": lambda t: ls.bias_halting(0.7, iteration=t, position=t),
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_schedules_and_halting_take_whole_numbers_of_every_kind_and_nothing_else(kind):
    expected, texts = result(SCHEDULES[kind](1))
    for form in numbers(1):
        output, same = result(SCHEDULES[kind](form))
        assert torch.equal(output, expected) and same == texts
    for selector in bad("iteration"):
        assert refused(SCHEDULES[kind], selector), selector


@pytest.mark.parametrize(
    "times", [1.5, True, -1, "2", None, [2], torch.tensor(2.0), np.bool_(True)], ids=named
)
def test_an_iteration_is_repeated_a_whole_number_of_times(times):
    with pytest.raises(ls.LoopscopeError, match="times must be a whole number"):
        ls.repeat(1, times=times)
    assert ls.repeat(1, times=np.int64(3)) == ls.repeat(1, times=torch.tensor(3)) == ls.repeat(1, times=3)


def test_edits_are_a_list_or_one_alone_or_none():
    expected, texts = result(ls.ablate("state", iteration=2))
    for edits in ((edit := ls.ablate("state", iteration=2)), [edit], (edit,)):
        run = ls.record(MODEL, TOKENS, edits=edits)
        assert torch.equal(run.output, expected) and run.origin["edits"] == texts
    for edits in (None, [], ()):
        assert ls.record(MODEL, TOKENS, edits=edits).origin["edits"] == []
    for edits in (
        {},
        {"state": edit},
        "state",
        3,
        [None],
        [[edit]],
        [edit, "skip"],
        ls.ablate,
        torch.ones(2),
    ):
        with pytest.raises(ls.LoopscopeError, match="edits? .*made by patch, ablate, add"):
            ls.record(MODEL, TOKENS, edits=edits)


@pytest.mark.parametrize("seed", [1.5, True, "1", 1 << 80, [1], float("nan"), torch.tensor(1.5)], ids=named)
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ls.LoopscopeError, match="seed must be a whole number"):
        ls.record(MODEL, TOKENS, seed=seed)
    assert ls.record(MODEL, TOKENS, seed=np.int64(3)).origin["seed"] == 3
