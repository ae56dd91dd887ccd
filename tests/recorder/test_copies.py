"""What a recording copies: one copy for a tensor that passes several sites, and never one of
numbers that came later."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import loopscope as ls

N, WIDTH = 3, 4


class Writing(nn.Module):
    """Its part's output is the tensor that it returns, written to in between."""

    def __init__(self, write: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.part: nn.Module = nn.Linear(WIDTH, WIDTH)
        self.write = write

    def forward(self, h: Tensor) -> Tensor:
        h = self.part(h)
        self.write(h)
        return h


class Loop(nn.Module):
    def __init__(self, write: Callable[[Tensor], object] = lambda h: None, turns: int = N) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.core, self.turns = Writing(write), turns

    def forward(self, x: Tensor) -> Tensor:
        h = x.clone()
        for _ in range(self.turns):
            h = self.core(h)
        return 2 * h


X = torch.linspace(-1, 1, 2 * 3 * WIDTH).reshape(2, 3, WIDTH)
WRITES = {
    "itself": lambda h: h.add_(1),
    "a view": lambda h: h.view(-1)[1:].add_(1),
    ".data": lambda h: h.data.add_(1),
    "numpy": lambda h: h.numpy().__iadd__(1),
    "one number, by .data": lambda h: h.data[1, 2, 3].add_(1),
    "detached": lambda h: h.detach().mul_(2),
    "out=": lambda h: torch.add(h, 1, out=h),
    "DLPack": lambda h: torch.from_dlpack(h.detach())[..., ::2].add_(1),
}


@pytest.mark.parametrize("way", WRITES)
def test_one_tensor_at_two_sites_has_the_numbers_of_each_moment(way):
    model = Loop(WRITES[way])
    run = ls.record(ls.wrap(model, body="core"), X, sites=["core.part"])
    h = X.clone()
    with torch.no_grad():
        for t in range(N):
            assert torch.equal(run["core_in"][t], h)
            h = model.core.part(h)
            assert torch.equal(run["core.part"][t], h)
            WRITES[way](h)
            assert torch.equal(run.states[t + 1], h)


class Zero(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return 0 * h.abs()


def test_the_sign_of_a_zero_that_is_written_is_seen():
    model = Loop(lambda h: h.data.neg_())
    model.core.part = Zero()
    run = ls.record(ls.wrap(model, body="core"), X, sites=["core.part"])
    assert not run["core.part"][0].signbit().any() and run.states[1].signbit().all()


class Copies(TorchDispatchMode):
    """Counts the bytes that `clone` makes of tensors of one shape."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.shape, self.bytes = shape, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.clone.default and result.shape == self.shape:
            self.bytes += result.nbytes
        return result


def copied_bytes(turns: int) -> int:
    handle = ls.wrap(Loop(turns=turns), body="core")
    with Copies(X.shape) as copies:
        run = ls.record(handle, X, sites=["core.part"])
    assert all(run["core.part"][t].data_ptr() == run.states[t + 1].data_ptr() for t in range(turns))
    assert all(run["core_in"][t].data_ptr() == run.states[t].data_ptr() for t in range(1, turns))
    return copies.bytes


def test_a_tensor_that_passes_three_sites_is_copied_once_in_each_iteration():
    assert copied_bytes(2 * N) - copied_bytes(N) == N * X.nbytes


class Resetting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, h: Tensor, reset: Tensor) -> Tensor:
        return self.linear(torch.where(reset[:, None, None], 0.5, h))


class Flagged(nn.Module):
    """A loop whose first call may begin anew, by flags that come with the input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.core, self.calls = Resetting(), 0

    def forward(self, x: Tensor, reset: Tensor) -> Tensor:
        self.calls += 1
        h = x.clone()
        for t in range(N):
            h = self.core(h, reset if not t else torch.zeros_like(reset))
        return h


def test_whether_the_start_is_used_is_found_out_once_for_each_kind_of_input():
    model = Flagged()
    handle = ls.wrap(model, body="core")
    kept = torch.zeros(2, dtype=torch.bool)

    def passes(x: Tensor, reset: Tensor) -> tuple[int, bool]:
        before = model.calls
        run = ls.record(handle, x, reset=reset)
        return model.calls - before, 0 in run.states.iterations

    assert passes(X, kept)[1]
    assert passes(X, kept) == (1, True)
    assert passes(X + 1, kept) == (1, True), "other numbers of the state are the same kind"
    count, known = passes(X, ~kept)
    assert count > 1 and not known, "other flags are another kind"
    assert passes(X + 1, ~kept) == (1, False)
    assert passes(X[:, :2], kept)[0] > 1, "and so is another length"
    model.core.linear.bias.data += 1
    with torch.no_grad():
        model.core.linear.weight.mul_(2)
    assert passes(X, kept)[0] > 1, "and so are other weights"
