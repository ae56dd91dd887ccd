"""Hooks that come and go in any order, and belong to their thread."""

import itertools
import threading
from typing import Any

import pytest
import torch
from torch import nn

from loopscope.core.hooks import TemporaryHooks

ORDERS = list(itertools.permutations(range(3)))


def plain() -> nn.Module:
    return nn.Linear(2, 2)


def wrapped_before() -> nn.Module:
    """With a `forward` of its own on the instance, as accelerate leaves it."""
    module = nn.Linear(2, 2)
    original = module.forward
    module.forward = lambda x: original(x) + 100
    return module


def hooked() -> nn.Module:
    module = nn.Linear(2, 2)
    module.register_forward_hook(lambda module, args, output: output + 100)
    return module


@pytest.mark.parametrize("make", [plain, wrapped_before, hooked])
@pytest.mark.parametrize("attached", ORDERS)
@pytest.mark.parametrize("removed", ORDERS)
def test_hooks_taken_off_in_any_order_leave_the_module_as_it_was(make, attached, removed):
    module, x = make(), torch.ones(1, 2)
    before, hooks_before, expected = dict(vars(module)), dict(module._forward_hooks), module(x)
    hooks = [TemporaryHooks() for _ in range(3)]
    for one in attached:
        hooks[one].attach(module, after=lambda args, kwargs, output, one=one: output + 10**one)
    here = set(range(3))
    for one in (None, *removed):
        if one is not None:
            hooks[one].__exit__()
            here.discard(one)
        assert torch.allclose(module(x), expected + sum(10**one for one in here))
    assert {name: value for name, value in vars(module).items() if name != "_forward_hooks"} == {
        name: value for name, value in before.items() if name != "_forward_hooks"
    }
    assert dict(module._forward_hooks) == hooks_before and torch.equal(module(x), expected)


def test_the_last_hook_is_the_outermost():
    module, calls = plain(), []

    def say(text: str) -> Any:
        return lambda *parts: (calls.append(text), parts[-1] if len(parts) == 3 else parts)[1]

    with TemporaryHooks() as hooks:
        for name in "ab":
            hooks.attach(module, before=say(f"before {name}"), after=say(f"after {name}"))
        module(torch.ones(1, 2))
    assert calls == ["before b", "before a", "after a", "after b"]


@pytest.mark.parametrize(
    "error", [ValueError, KeyboardInterrupt, SystemExit, type("Own", (BaseException,), {})]
)
def test_an_exception_leaves_nothing_behind(error):
    module = plain()
    before = dict(vars(module))

    def fail(*_: Any) -> Any:
        raise error

    for where in ({"before": fail}, {"after": fail}):
        with TemporaryHooks() as hooks:
            hooks.attach(module, **where)
            with pytest.raises(error):
                module(torch.ones(1, 2))
        assert vars(module) == before


def test_what_others_put_around_the_forward_meanwhile_stays():
    module, x = plain(), torch.ones(1, 2)
    expected = module(x)
    with TemporaryHooks() as hooks:
        hooks.attach(module, after=lambda args, kwargs, output: output + 1)
        ours = module.forward
        module.forward = lambda x: ours(x) + 10
        with TemporaryHooks() as more:
            more.attach(module, after=lambda args, kwargs, output: output + 100)
            assert torch.allclose(module(x), expected + 111)
        assert torch.allclose(module(x), expected + 11)
    assert torch.allclose(module(x), expected + 10)


@pytest.mark.parametrize("make", [plain, hooked])
def test_another_thread_passes_the_hooks_by(make):
    module, x, results = make(), torch.ones(1, 2), []
    expected = module(x)
    with TemporaryHooks() as hooks:
        hooks.attach(module, after=lambda args, kwargs, output: output + 1)
        thread = threading.Thread(target=lambda: results.append(module(x)))
        thread.start()
        thread.join()
        assert torch.equal(results[0], expected) and torch.allclose(module(x), expected + 1)
