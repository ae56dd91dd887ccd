"""Several threads that record one model, and recordings inside each other."""

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import loopscope as ls
from loopscope.core.loop_index import Clock

from ..toys.moody_loop import Config, MoodyLoop, tokens
from ..toys.small_models import albert, hrm_text
from ..toys.threads import in_threads

THREADS = 4
COMPARED = {"checked_weights": None}
"""What an adapter notes of a recording: with which weights it was compared."""


class Outer(nn.Module):
    """A part that repeats, within a module that repeats nothing."""

    def __init__(self, core: nn.Module | None = None) -> None:
        super().__init__()
        self.core = nn.Linear(8, 8) if core is None else core

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(5):
            x = torch.tanh(self.core(x))
        return x


def vectors(number: int) -> Tensor:
    return torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(number))


def ids(number: int) -> Tensor:
    return torch.randint(1, 30, (2, 6), generator=torch.Generator().manual_seed(number))


def of_ours() -> list[Any]:
    model = MoodyLoop().eval()
    return [model] * THREADS


def by_the_body() -> list[Any]:
    module = Outer().eval()
    return [ls.wrap(module, body="core") for _ in range(THREADS)]


def by_adapters() -> list[Any]:
    torch.manual_seed(0)
    model = albert().eval()
    return [ls.wrap(model) for _ in range(THREADS)]


def adapter_and_body() -> list[Any]:
    torch.manual_seed(0)
    model = hrm_text().eval()
    return [ls.wrap(model), ls.wrap(model, body="model.L_module"), ls.wrap(model.model), ls.wrap(model)]


def shared_part() -> list[Any]:
    core = nn.Linear(8, 8)
    return [ls.wrap(Outer(core).eval(), body="core") for _ in range(THREADS)]


WRAPS: dict[str, tuple[Callable[[], list[Any]], Callable[[int], Tensor], list[str]]] = {
    "one model of ours": (of_ours, lambda number: tokens(seed=number), ["core"]),
    "wrapped several times by its body": (by_the_body, vectors, ["core"]),
    "several adapters": (by_adapters, ids, []),
    "adapters and a body": (adapter_and_body, ids, []),
    "modules that share their body": (shared_part, vectors, ["core"]),
}
EDITS = {
    "no edit": lambda: [],
    "an edit": lambda: [ls.ablate("state", iteration=1)],
    "an edit from the end": lambda: [ls.ablate("state", iteration=-2)],
}


def values(run: ls.Run) -> list[Tensor]:
    return [value for name in run.names for _, value in run[name].items()]


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("kind", WRAPS)
def test_threads_record_what_each_records_alone(kind, edit):
    make, inputs, sites = WRAPS[kind]
    models = make()
    modules = {module for model in models for module in modules_of(model)}
    before = {module: dict(vars(module)) for module in modules}

    def record(number: int) -> list[Tensor]:
        edits = EDITS[edit]() if number % 2 == 0 else []
        return values(ls.record(models[number], inputs(number), sites=sites, edits=edits))

    alone = [record(number) for number in range(THREADS)]
    for _ in range(3):
        together = in_threads([lambda number=number: record(number) for number in range(THREADS)])
        for one, other in zip(alone, together, strict=True):
            assert all(map(torch.equal, one, other)) and len(one) == len(other)
    for module, attributes in before.items():
        assert vars(module) | COMPARED == attributes | COMPARED


def modules_of(model: Any) -> list[nn.Module]:
    return list((model if isinstance(model, nn.Module) else model.module).modules())


class Meeting(MoodyLoop):
    """Meets another thread in the middle of its pass."""

    inside, most, lock = 0, 0, threading.Lock()

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        with self.lock:
            Meeting.inside += 1
            Meeting.most = max(self.most, self.inside)
        result = super().step(state, context, t)
        with self.lock:
            Meeting.inside -= 1
        return result


def test_everything_that_computes_with_a_model_takes_turns():
    model = Meeting().eval()
    run, batch = ls.record(model, tokens()), tokens()
    work: list[Callable[[], Any]] = [
        lambda: ls.record(model, batch).states.tensor,
        lambda: ls.resume(model, run, 8).states.tensor,
        lambda: run.logits.tensor,
        lambda: ls.effects(run, "zero", metric="kl", sites=["state", "core"]).values,
        lambda: ls.effects(run, "mean", method="attribution", metric="margin", exact_cells=0).values,
        lambda: ls.answer(model, batch, rule="kl", threshold=0.0).logits,
        lambda: ls.analyses.measure("convergence", run).summary(),
    ]
    alone = [one() for one in work]
    for one, other in zip(alone, in_threads(work), strict=True):
        assert one == other if isinstance(one, str) else torch.equal(one.nan_to_num(), other.nan_to_num())
    assert Meeting.most == 1 and Meeting.inside == 0


def test_a_forward_pass_in_another_thread_changes_no_recording():
    model, batch = MoodyLoop().eval(), tokens()
    alone = ls.record(model, batch, sites=["core"])
    expected = model(tokens(seed=9))

    def recorded() -> ls.Run:
        return ls.record(model, batch, sites=["core"])

    def passing() -> None:
        for _ in range(20):
            assert torch.equal(model(tokens(seed=9)), expected)

    runs, _ = in_threads([lambda: [recorded() for _ in range(20)], passing])
    assert all(torch.equal(run.states.tensor, alone.states.tensor) for run in runs)
    assert all(torch.equal(run["core"].tensor, alone["core"].tensor) for run in runs)


# Seeds


def test_a_seed_gives_the_same_in_threads_as_alone_and_the_generator_is_put_back():
    models = [MoodyLoop(Config(dropout=0.5)).train() for _ in range(THREADS)]
    record = [lambda n=n: ls.record(models[n], tokens(), seed=n).states.tensor for n in range(THREADS)]
    alone = [one() for one in record]
    quiet = MoodyLoop(Config(dropout=0.5)).train()
    before = torch.get_rng_state()
    for _ in range(5):
        together = in_threads(record)
        assert all(map(torch.equal, alone, together))
    assert torch.equal(torch.get_rng_state(), before)
    *together, _ = in_threads([*record, lambda: [ls.record(quiet, tokens()) for _ in range(5)]])
    assert all(map(torch.equal, alone, together))


# Inside each other


def nested_calls(model: Any, run: ls.Run) -> dict[str, Callable[[], Any]]:
    return {
        "record": lambda: ls.record(model, tokens()),
        "resume": lambda: ls.resume(model, run, 6),
        "logits": lambda: run.logits[1],
        "effects": lambda: ls.effects(run, "zero", metric="kl"),
        "answer": lambda: ls.answer(model, tokens()),
    }


@pytest.mark.parametrize("name", ["record", "resume", "logits", "effects", "answer"])
def test_inside_a_recording_nothing_else_of_the_model_is_recorded_or_read_out(name):
    model = MoodyLoop().eval()
    run, said = ls.record(model, tokens()), []

    def hook(*_: Any) -> None:
        try:
            nested_calls(model, run)[name]()
        except ls.LoopscopeError as error:
            said.append(str(error))

    handle = model.core.register_forward_hook(hook)
    again = ls.record(model, tokens())
    handle.remove()
    assert len(said) == 4 and all(
        "must begin after a recording of the same model has ended" in s for s in said
    )
    assert torch.equal(again.states.tensor, run.states.tensor)
    assert torch.equal(ls.record(model, tokens()).states.tensor, run.states.tensor)


def test_inside_a_recording_block_of_a_model_it_is_not_recorded_but_another_is():
    torch.manual_seed(0)
    model, other = hrm_text().eval(), MoodyLoop().eval()
    one, two = ls.wrap(model), ls.wrap(model)
    expected = ls.record(other, tokens()).states.tensor
    with ls.recording(one) as out:
        model(ids(0))
        for wrapped in (one, two):
            with pytest.raises(ls.LoopscopeError, match="must begin after"):
                ls.record(wrapped, ids(0))
        with pytest.raises(ls.LoopscopeError, match="must begin after"), ls.recording(two):
            pass
        assert torch.equal(ls.record(other, tokens()).states.tensor, expected)
    assert len(out) == 1
    assert torch.equal(ls.record(two, ids(0)).states.tensor, ls.record(one, ids(0)).states.tensor)


# Exceptions


class Own(BaseException):
    pass


class Failing(MoodyLoop):
    where, error = "", Exception

    def fail_at(self, name: str, value: Any) -> Any:
        if name == self.where:
            raise self.error
        return value

    def encode(self, tokens: Tensor) -> Tensor:
        return self.fail_at("encode", super().encode(tokens))

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        for _ in self.clock.loop("low", range(2)):
            self.fail_at("step", None)
        return super().step(state, context, t)

    def decode(self, state: Tensor, context: Tensor) -> Tensor:
        return self.fail_at("decode", super().decode(state, context))

    def at_state(self, state: Tensor) -> Tensor:
        return self.fail_at("at_state", super().at_state(state))


CALLED = {
    "record": ["encode", "at_state", "step", "decode"],
    "resume": ["at_state", "step", "decode"],
    "effects": ["encode", "step", "decode"],
    "logits": ["decode"],
}


@pytest.mark.parametrize("where", CALLED["record"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Own])
def test_an_exception_in_the_model_leaves_nothing_behind(where, error):
    model = Failing(Config(dropout=0.1)).eval()
    run = ls.record(model, tokens(), seed=0)
    before = {module: dict(vars(module)) for module in model.modules()}
    generator = torch.get_rng_state()
    tried: list[Callable[[], Any]] = [
        lambda: ls.record(model, tokens(), seed=0, sites=["core"]),
        lambda: ls.resume(model, run, 8, seed=1),
        lambda: ls.effects(run, "zero", sites=["core"], metric="kl"),
        lambda: run.logits[2],
    ]
    model.train()
    for attempt, name in zip(tried, ["record", "resume", "effects", "logits"], strict=True):
        if where not in CALLED[name]:
            continue
        Failing.where, Failing.error = where, error
        try:
            with torch.autocast("cpu", torch.bfloat16), pytest.raises(error):
                attempt()
            assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
        finally:
            Failing.where = ""
        assert model.clock.index == () and not model.clock.hidden
        assert torch.equal(torch.get_rng_state(), generator)
        assert all(module.training for module in model.modules())
        for module, attributes in before.items():
            assert {k: v for k, v in vars(module).items() if k != "training"} == {
                k: v for k, v in attributes.items() if k != "training"
            }
    in_threads([lambda: model.eval() and ls.record(model, tokens(), seed=0)])
    assert torch.equal(ls.record(model, tokens(), seed=0).states.tensor, run.states.tensor)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Own])
def test_an_exception_in_a_wrapped_module_leaves_nothing_behind(error):
    module = Outer().eval()
    wrapped = ls.wrap(module, body="core")
    expected = ls.record(wrapped, vectors(0)).states.tensor
    before = {part: dict(vars(part)) for part in module.modules()}

    def fail(*_: Any) -> None:
        raise error

    handle = module.core.register_forward_hook(fail)
    for attempt in (lambda: ls.record(wrapped, vectors(0), sites=["core"]), lambda: passed(wrapped)):
        with pytest.raises(error):
            attempt()
        assert wrapped.clock.index == ()
    handle.remove()
    assert all(vars(part) == attributes for part, attributes in before.items())
    assert torch.equal(ls.record(wrapped, vectors(0)).states.tensor, expected)


def passed(wrapped: Any) -> None:
    with ls.recording(wrapped):
        wrapped(vectors(0))


def test_each_thread_has_its_own_time():
    clock = Clock()
    clock.set(("iteration", 3))
    assert in_threads([lambda: clock.index, lambda: (clock.set(("iteration", 5)), clock.index)[1]]) == [
        (),
        (5,),
    ]
    assert clock.index == (3,) and list(itertools.islice(clock.loop("low", range(2)), 1)) == [0]
