"""A report of a feed-forward model with a loop put into it has no section that fails."""

import json

import pytest
import torch

import loopscope as ls

from ..toys.feed_forward import gpt2, llama

TOKENS = torch.randint(0, 20, (6, 8), generator=torch.Generator().manual_seed(0))
CASES = {
    "GPT-2, a repeated window": lambda: ls.wrap(gpt2(), body="transformer.h.1:3", repeat=4),
    "Llama, damped": lambda: ls.wrap(llama(), body="model.layers.1:3", repeat=4, update="damped"),
    "Llama, a path": lambda: ls.wrap(llama(), body="model.layers", order=[0, 1, 2, 1, 2, 1, 2, 3, 4]),
    "the zoo's stack": lambda: ls.wrap(
        ls.models.load("stack-hops"), body="core.3:5", repeat=4, update="anchored"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_no_section_of_a_report_fails(case, tmp_path):
    looped = CASES[case]()
    tokens = TOKENS if looped.task is None else looped.task.batch(16, seed=0).tokens
    page = ls.report(ls.record(looped, tokens), progress=False)
    numbers = json.loads(page.save(tmp_path / "page.html").with_suffix(".json").read_text(encoding="utf-8"))
    assert {"convergence", "cycles", "stability", "causes", "lens"} <= set(numbers["results"])
    failed = [part for part in numbers["left_out"] if "doesn't apply to this run" not in part["why"]]
    left_out = [part["part"] for part in failed]
    assert left_out == (["Accuracy"] if looped.task is None else []), (
        "there is nothing to score without a task"
    )
    assert looped.task is None or {"overthinking", "policy", "probes"} <= set(numbers["results"])
