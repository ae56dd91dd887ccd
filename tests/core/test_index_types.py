"""States and logits take numbers, slices, arrays and masks of every kind as their canonical form,
or refuse them with a sentence."""

import numpy as np
import pytest
import torch

import loopscope as ls

from ..toys.edited_loop import BATCH, POSITIONS, TOKENS, EditedLoop, N

RUN = ls.record(EditedLoop().eval(), TOKENS)
INDEXED = {"states": RUN.states, "logits": RUN.logits, "run": RUN}
NOT_ONE = [
    1.0, 1.5, True, np.bool_(True), torch.tensor(True), torch.tensor(1.0), None, ..., object(), {1: 2}, {1},
    [0, 1], [], np.array([0, 1]), torch.tensor([0, 1]), torch.tensor([1]), np.array([[1]]), slice(1.5), 1j,
    slice(True, 3), slice(None, None, 0), slice("a"), 99, -99, 1 << 70, torch.tensor(1, device="meta"), (),
    (1, 99), (1, "a"), (1, True), (1, 1.0), (1, 1 << 70), (99, 0), (slice(0, 2), 99), (1, slice(0, 2), 99),
    (1, [0, 99]), (1, [0, 1], [0, 1, 2]), (1, 0, 0, 0, 0, 0), (1, torch.ones(99, dtype=torch.bool)),
    (1, object()),
]  # fmt: skip


@pytest.mark.parametrize("kind", INDEXED)
def test_an_iteration_may_be_a_number_of_any_kind(kind):
    indexed, true = INDEXED[kind], RUN.states.tensor
    for three in (
        3,
        -4,
        np.int64(3),
        np.uint8(3),
        np.array(3),
        torch.tensor(3),
        torch.tensor(3, dtype=torch.int8),
    ):
        assert torch.equal(indexed[three], true[3])
        assert torch.equal(indexed[three, 1], true[3, 1])
    for two in (slice(1, 3), slice(np.int64(1), torch.tensor(3))):
        assert torch.equal(indexed[two].tensor, true[1:3])
        for rest in (..., (0,), (slice(None), 2), ([0, 2],), (np.array([0, 2]),), (torch.tensor([0, 2]),)):
            rest = rest if isinstance(rest, tuple) else (rest,)
            assert torch.equal(indexed[(two, *rest)], true[(slice(1, 3), *rest)])
            assert torch.equal(indexed[(1, *rest)], true[(1, *rest)])


@pytest.mark.parametrize("kind", INDEXED)
def test_what_is_no_index_is_refused(kind):
    for index in NOT_ONE:
        with pytest.raises(ls.LoopscopeError):
            INDEXED[kind][index]


def test_at_takes_selectors_of_every_kind():
    true, mask = RUN.states.tensor, [place in (1, 3) for place in range(POSITIONS)]
    for form in (
        [1, 3],
        (1, 3),
        np.array([1, 3]),
        torch.tensor([1, 3]),
        mask,
        np.array(mask),
        range(1, 4, 2),
    ):
        assert torch.equal(RUN.states.at(position=form).tensor, true[:, :, [1, 3]])
    for form in (1, np.int64(1), torch.tensor(1), np.array(1), 1 - POSITIONS):
        selected = RUN.states.at(position=form, batch=slice(np.int64(1), None))
        assert selected.axes == ("iteration", "batch", "width") and torch.equal(
            selected.tensor, true[:, 1:, 1]
        )
    for form in (None, ..., slice(None)):
        assert torch.equal(RUN.states.at(position=form, batch=np.array([0])).tensor, true[:, [0]])
    wrong = [1.5, True, "a", 99, [0, 99], [True] * BATCH, {1}, object(), torch.ones(2), slice(1.5), [[0]]]
    for form in wrong:
        with pytest.raises(ls.LoopscopeError):
            RUN.states.at(position=form)
    assert RUN.iterations == N
