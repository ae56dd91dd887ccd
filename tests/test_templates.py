"""The templates of `loopscope new`, imported and run."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.common.user_files import import_file
from loopscope.core.looped_model import step_at
from loopscope.shelves.new import TEMPLATES

from .toys.import_graph import ROOT

KINDS = ("model", "task", "analysis", "adapter")


class Tiny(nn.Module):
    """The model for which the page has an adapter: a block whose result is added to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 5
        self.embed, self.block, self.head = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 9)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        h = self.embed(tokens)
        for _ in range(self.depth):
            h = h + self.block(h)
        return self.head(h)


def template(kind: str) -> Path:
    """The file of a template."""
    return TEMPLATES / f"my_{kind}.py"


def load(kind: str) -> ModuleType:
    """A template, imported by its path."""
    return import_file(template(kind))


def four_functions(model, tokens, iterations):
    context = model.encode(tokens)
    state = model.initial(context)
    for t in range(iterations):
        state = step_at(model, state, context, t)
    return model.decode(state, context)


def test_each_template_has_its_test_and_is_named_on_the_page():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert {path.name for path in TEMPLATES.glob("*.*")} == {
        name for kind in KINDS for name in (f"my_{kind}.py", f"test_my_{kind}.py.txt")
    }
    assert all(f"](../{template(kind).relative_to(ROOT)})" in page for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_is_short(kind: str):
    assert len(template(kind).read_text(encoding="utf-8").splitlines()) <= 70


def test_an_architecture_is_recorded_and_its_four_functions_are_its_forward():
    file = load("model")
    torch.manual_seed(0)
    model = file.Model(file.Config(iterations=5)).eval()
    tokens = torch.randint(0, 12, (3, 7))
    run = ls.record(model, tokens)
    assert run.iterations == 5 and run.states.tensor.shape == (6, 3, 7, 32)
    with torch.no_grad():
        logits = model(tokens)
        assert torch.equal(four_functions(model, tokens, 5), logits)
    assert torch.equal(run.logits[-1], logits)
    assert ls.record(model, tokens, 9, sites=["core.0.attn.hook_pattern"]).iterations == 9


def test_a_task_labels_what_it_draws_and_keeps_its_splits_apart():
    task = load("task").MyTask(length=5)
    for split in ("train", "test"):
        batch, again = (task.batch(64, 3, split) for _ in range(2))
        assert torch.equal(batch.tokens, again.tokens)
        assert task.is_test(batch.tokens).eq(split == "test").all()
        assert torch.equal(batch.targets, task.solve(batch.tokens)) and batch.mask.all()
        for row, targets in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
            assert targets == [max(row[: i + 1]) for i in range(5)]
        kept = torch.where(batch.mask, batch.tokens, batch.targets)
        assert torch.equal(kept, batch.tokens), "outside the mask targets are the input"
    assert task.batch(4, 0, length=9).tokens.shape == (4, 9)
    assert set(task.facts(task.batch(8, 0).tokens)) == {"answer", "input", "difficulty"}
    with pytest.raises(ls.LoopscopeError, match="at least 32 different examples"):
        task.batch(4, 0, length=1)


def test_an_analysis_measures_draws_and_is_written_as_json():
    file = load("analysis")
    model = ls.models.build("universal", width=16, vocabulary=3, injection="add").eval()
    result = file.measure(ls.record(model, torch.zeros(2, 4, dtype=torch.long), 6))
    assert result.distance.shape == (6,) and result.verdict in file.Movement
    assert str(result).startswith(result.verdict.sentence)
    figure = result.figure()
    assert list(figure.data[0].y) == result.distance.tolist()
    assert json.loads(result.to_json())["distance"] == pytest.approx(result.distance.tolist())


def test_an_adapter_answers_as_the_model():
    torch.manual_seed(0)
    module = Tiny().eval()
    model, tokens = ls.wrap(module, adapter=template("adapter")), torch.randint(0, 9, (3, 7))
    run = ls.record(model, tokens, sites=["core_in", "block"])
    with torch.no_grad():
        logits = module(tokens)
        assert torch.equal(four_functions(model, tokens, 5), logits)
    assert run.iterations == 5 and torch.equal(run.logits[-1], logits)
    assert torch.equal(run["core_in"][2], run.states[2])
    assert model.difference(tokens) == 0
