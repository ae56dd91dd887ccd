"""states[0] is what the loop begins with, or absent with its reason: never memory that nobody
wrote, and never what the body resets."""

import warnings

import pytest
import torch
from torch import Tensor, nn

import loopscope as ls

X = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
IGNORED = "the body's first call returns the same whatever it receives"


class Segment(nn.Module):
    """HRM's and TRM's outer loop: rows that are marked as halted are reset inside the body."""

    start: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.core = nn.Linear(8, 8)
        self.register_buffer("start", torch.ones(8))

    def forward(self, carry: tuple[Tensor, Tensor], x: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        h, halted = carry
        h = torch.tanh(self.core(torch.where(halted[:, None, None], self.start, h)) + x)
        return (h, torch.zeros_like(halted)), h


class Outer(nn.Module):
    """Begins with a carry of these numbers, and of rows that are reset."""

    def __init__(self, begin, reset) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.begin, self.reset = Segment(), begin, torch.tensor(reset)

    def forward(self, x: Tensor) -> Tensor:
        carry, y = (self.begin(x), self.reset), x
        for _ in range(4):
            carry, y = self.body(carry, x)
        return y


def nan_and_infinity(x):
    return torch.stack([x[0] * torch.nan, x[1] / 0, x[2]])


BEGINNINGS = {
    "never written": torch.empty_like,
    "numbers as of memory": lambda x: torch.empty_like(x).uniform_(1e3, 1e4),
    "NaN and infinity": nan_and_infinity,
    "zeros": torch.zeros_like,
    "the input": torch.clone,
}


@pytest.mark.parametrize("begin", BEGINNINGS)
@pytest.mark.parametrize("reset", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_a_state_that_is_reset_inside_the_body_is_absent(begin, reset):
    model = Outer(BEGINNINGS[begin], [bool(row) for row in reset])
    numbers = begin not in ("NaN and infinity", "never written")  # memory may hold anything
    with warnings.catch_warnings():  # of rows that aren't reset, and go on with NaN
        warnings.simplefilter("error" if numbers else "ignore", ls.LoopscopeWarning)
        run = ls.record(ls.wrap(model, body="body"), X)
    assert run.states.iterations == [1, 2, 3, 4]
    assert run["core_in"].iterations == [1, 2, 3]
    if all(reset):
        run.require_finite()
    with pytest.raises(ls.LoopscopeIndexError, match=f"{IGNORED}|received other numbers"):
        run.states[0]


@pytest.mark.parametrize("begin", ["zeros", "the input", "numbers as of memory"])
def test_a_state_that_is_read_in_every_row_is_there(begin):
    model = Outer(BEGINNINGS[begin], [False] * 3)
    wrapped = ls.wrap(model, body="body")
    run = ls.record(wrapped, X, seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        assert torch.equal(run.states[0], BEGINNINGS[begin](X))


def test_the_answer_is_of_these_inputs_and_not_of_earlier_ones():
    model = Outer(torch.zeros_like, [False] * 3)
    wrapped = ls.wrap(model, body="body")
    for reset, known in (([False] * 3, True), ([False, True, False], False), ([False] * 3, True)):
        model.reset = torch.tensor(reset)
        assert (0 in ls.record(wrapped, X).states.iterations) == known


def test_random_numbers_that_no_seed_repeats_are_no_known_state():
    generator = torch.Generator().manual_seed(0)
    model = Outer(lambda x: torch.randn(x.shape, generator=generator), [False] * 3)
    run = ls.record(ls.wrap(model, body="body"), X)
    with pytest.raises(
        ls.LoopscopeIndexError, match="received other numbers when the same pass was run again"
    ):
        run.states[0]


def test_what_is_recorded_and_what_is_drawn_later_are_as_without_the_look_at_the_start():
    class Drawing(nn.Module):
        count: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.core, self.drop = nn.Linear(8, 8), nn.Dropout(0.5)
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            h = torch.randn_like(x)
            for _ in range(3):
                h = self.drop(self.core(h))
            self.count += 1
            return h + 0 * torch.rand(())

    model = Drawing()
    torch.manual_seed(5)
    bare, after = model(X), torch.rand(4)
    torch.manual_seed(5)
    run = ls.record(ls.wrap(model, body="core"), X)
    assert torch.equal(run.output, bare) and torch.equal(torch.rand(4), after)
    assert model.count == 2
    with torch.random.fork_rng():
        torch.manual_seed(5)
        assert 0 not in run.states.iterations  # dropout comes between two calls
    model.eval()
    torch.manual_seed(5)
    model(X)
    after = torch.rand(4)
    torch.manual_seed(5)
    assert 0 in ls.record(ls.wrap(model, body="core"), X).states.iterations
    assert torch.equal(torch.rand(4), after)
    quiet = ls.record(ls.wrap(model, body="core"), X, seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert torch.equal(quiet.states[0], torch.randn_like(X))


def test_after_a_single_call_it_is_not_seen_what_comes_between_two():
    class Once(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.core(x + 1)

    run = ls.record(ls.wrap(Once(), body="core"), X)
    with pytest.raises(ls.LoopscopeIndexError, match="the body was called only once"):
        run.states[0]


def test_the_reason_goes_into_the_file_and_through_slices(tmp_path):
    run = ls.record(ls.wrap(Outer(torch.zeros_like, [True] * 3), body="body"), X)
    loaded = ls.load_run(run.save(tmp_path / "run.safetensors"))
    for states in (run.states[:3], run.states.at(position=0), loaded.states):
        with pytest.raises(ls.LoopscopeIndexError, match=IGNORED):
            states[0]


def test_the_passes_of_a_generation_are_looked_at_too():
    outer = Outer(torch.zeros_like, [True] * 3)
    with ls.recording(ls.wrap(outer, body="body")) as passes:
        outer(X)
        outer(2 * X)
    assert [one.states.iterations for one in passes] == [[1, 2, 3, 4]] * 2
    outer.reset = torch.tensor([False] * 3)
    with ls.recording(ls.wrap(outer, body="body")) as passes:
        outer(X)
        outer(2 * X)
    assert [one.states.iterations for one in passes] == [[0, 1, 2, 3, 4]] * 2
