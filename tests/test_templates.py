"""The templates of docs/architecture.md work as they are printed: copied into a file, imported and
run."""

import importlib.util
import json
import re
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope import adapters
from loopscope.core.looped_model import step_at

from .toys.import_graph import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
KINDS = {
    "An architecture": "architecture",
    "A task": "task",
    "An analysis": "analysis",
    "An adapter": "adapter",
}
"""The heading of each template, and the file that it becomes here."""


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


def template(heading: str) -> str:
    """The first block of code below a heading."""
    section = re.search(rf"^### {heading}:.*?^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert section, f"docs/architecture.md must have a section '### {heading}: ...' with a block ```python"
    return section[1]


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Copies a template into a file of its own and imports it."""

    def loaded(heading: str) -> ModuleType:
        name = f"{KINDS[heading]}_template"
        path = tmp_path / f"{name}.py"
        path.write_text(template(heading), encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return loaded


def four_functions(model, tokens, iterations):
    context = model.encode(tokens)
    state = model.initial(context)
    for t in range(iterations):
        state = step_at(model, state, context, t)
    return model.decode(state, context)


def test_the_page_has_these_templates_and_no_other():
    assert re.findall(r"^### (.*?):.*\n\n(?=```python)", PAGE, re.MULTILINE) == list(KINDS)
    assert PAGE.count("```python") == len(KINDS)


@pytest.mark.parametrize("heading", ["A task", "An adapter"])
def test_a_template_has_at_most_30_lines(heading):
    assert len(template(heading).splitlines()) <= 30


def test_an_architecture_is_recorded_and_its_four_functions_are_its_forward(load):
    file = load("An architecture")
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


def test_a_task_labels_what_it_draws_and_keeps_its_splits_apart(load):
    task = load("A task").RunningMaximum(length=5)
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


def test_an_analysis_measures_draws_and_is_written_as_json(load):
    file = load("An analysis")
    model = ls.models.build("universal", width=16, vocabulary=3, injection="add").eval()
    result = file.measure(ls.record(model, torch.zeros(2, 4, dtype=torch.long), 6))
    assert result.distance.shape == (6,) and result.verdict in file.Movement
    assert str(result).startswith(result.verdict.sentence)
    figure = result.figure()
    assert list(figure.data[0].y) == result.distance.tolist()
    assert json.loads(result.to_json())["distance"] == pytest.approx(result.distance.tolist())


def test_an_adapter_is_chosen_by_the_name_of_the_class_and_answers_as_the_model(load, tmp_path, monkeypatch):
    load("An adapter")
    monkeypatch.setattr(adapters, "__path__", [*adapters.__path__, str(tmp_path)])
    monkeypatch.setitem(adapters.FAMILIES, "Tiny", "adapter_template")
    monkeypatch.delitem(sys.modules, "loopscope.adapters.adapter_template", raising=False)
    torch.manual_seed(0)
    module = Tiny().eval()
    model, tokens = ls.wrap(module), torch.randint(0, 9, (3, 7))
    run = ls.record(model, tokens, sites=["core_in", "block"])
    with torch.no_grad():
        logits = module(tokens)
        assert torch.equal(four_functions(model, tokens, 5), logits)
    assert run.iterations == 5 and torch.equal(run.logits[-1], logits)
    assert torch.equal(run["core_in"][2], run.states[2])
    assert model.difference(tokens) == 0
