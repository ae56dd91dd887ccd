"""One iteration is run in one place: `step_at`, which keeps the clock."""

import ast
from pathlib import Path

import pytest
import torch

from loopscope.core import Clock
from loopscope.core.looped_model import step_at

ROOT = Path(__file__).parents[2]
ALLOWED = ROOT / "loopscope" / "core" / "looped_model.py"
FILES = [
    path for folder in ("loopscope", "models", "analyses") for path in sorted((ROOT / folder).rglob("*.py"))
]


def step_calls(source: str) -> list[int]:
    """Lines that call `<something>.step(state, context, ...)`.

    `super().step(...)` refines a step, and is left out; an optimiser's takes no such arguments.
    """

    def refines(value: ast.expr) -> bool:
        return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "super"

    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "step"
        and len(node.args) + len(node.keywords) >= 2
        and not refines(node.func.value)
    ]


def test_only_step_at_runs_an_iteration():
    assert len(step_calls(ALLOWED.read_text(encoding="utf-8"))) == 1
    result = {
        str(path.relative_to(ROOT)): lines
        for path in FILES
        if path != ALLOWED and (lines := step_calls(path.read_text(encoding="utf-8")))
    }
    assert not result, (
        f"iterations must be run by step_at, which keeps the clock, but are run by hand in {result}"
    )


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("state = model.step(state, context, t)", [1]),
        ("\nfor t in range(3):\n    x = self.run.model.step(x, context=c, t=t)", [3]),
        ("optimiser.step()\nschedule.step(loss)", []),
        ("class A(B):\n    def step(self, s, c, t):\n        return super().step(s, c, t)", []),
        ("state = step_at(model, state, context, t)", []),
    ],
)
def test_a_planted_call_is_seen(source: str, lines: list[int]):
    assert step_calls(source) == lines


class Watched:
    """A model whose step stores the clock's index and the iteration index that it receives."""

    def __init__(self) -> None:
        self.clock, self.seen = Clock(), []

    def step(self, state, context, t):
        self.seen.append((self.clock.axes, self.clock.index, t))
        if context == "broken":
            raise RuntimeError("broken")
        return state + 1


def test_the_clock_shows_the_iteration_and_is_taken_down():
    model = Watched()
    assert step_at(model, torch.zeros(1), None, 4) == 1 and model.clock.index == ()
    step_at(model, torch.zeros(1), None, 4, iteration_index=0)
    with pytest.raises(RuntimeError):
        step_at(model, torch.zeros(1), "broken", 5)
    assert model.clock.index == ()
    assert model.seen == [(("iteration",), (4,), 4), (("iteration",), (4,), 0), (("iteration",), (5,), 5)]
