"""A page of every family's model, by its adapter or by its body: nothing on it has failed."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

import loopscope as ls

from ..adapters.input_cases import MODELS, tokens
from ..toys.body_families import DTNet, TransformerModelLooped
from ..toys.mor_double import MoRLlamaForCausalLM
from ..toys.transformers_loops import esm_fold, protein, zamba
from ..toys.universal_double import BabiUTransformer

pytestmark = pytest.mark.slow
AXES = ("batch", "channel", "height", "width")
STORY, QUERY = torch.ones(2, 4, 6, dtype=torch.long), torch.arange(12).view(2, 6)
Made = tuple[Any, Any, dict[str, Any]]
"""A wrapped model, its tokens and further inputs."""


def of_family(name: str) -> Made:
    build, _ = MODELS[name]
    whole = "Recurs" in name or "ReasoningModel" in name  # the length of their sequences is theirs
    return ls.wrap(build().eval()), tokens() if whole else tokens()[:, :4], {}


def fold() -> Made:
    inputs = protein()
    wrapped = ls.wrap(
        esm_fold().eval(), body=["parcae", "folding_trunk"], axes=("batch", "row", "column", "width")
    )
    return wrapped, inputs.pop("token_index"), inputs


def by_blocks(model: Any, name: str) -> Made:
    body = [f"model.layers.{i}.{name}" for i in ((1, 2, 3) if "block" in name else (1, 3, 5))]
    return ls.wrap(model.eval(), body=body), tokens() + 2, {}


OTHERS: dict[str, Callable[[], Made]] = {
    "Universal Transformer": lambda: (ls.wrap(BabiUTransformer().eval()), STORY, {"query": QUERY}),
    "with ACT": lambda: (ls.wrap(BabiUTransformer("act").eval()), STORY, {"query": QUERY}),
    "deep thinking": lambda: (
        ls.wrap(DTNet("recall").eval(), body="recur_block", head="head", count="iters_to_do", axes=AXES),
        torch.rand(2, 3, 5, 6),
        {"iters_to_do": 4},
    ),
    "looped GPT-2": lambda: (
        ls.wrap(TransformerModelLooped().eval(), body="_backbone", head="_read_out", count="n_loops"),
        torch.randn(2, 4, 3),
        {"ys": torch.randn(2, 4), "n_loop_start": 0, "n_loops": 4},
    ),
    "ESMFold2": fold,
    "Zamba2": lambda: by_blocks(zamba(), "shared_transformer"),
    "Mixture-of-Recursions": lambda: by_blocks(MoRLlamaForCausalLM(), "block.0"),
}


NOT_ITS = "doesn't apply to this run"
"""Of an analysis of what this run has not, such as halting."""
REASONS = (
    "needs a model with a head",
    "can't be read out as tokens of the model's task",
    "needs a state vector at each position",
    r"states\[0\] must be known",
    "can't be iterated on",
    "must have the same examples, positions and width at every iteration",
)
"""Why a page of what isn't tokens in and logits out, or is wrapped by its body, may lack a part."""


@pytest.mark.parametrize("name", [*MODELS, *OTHERS])
def test_a_page_has_no_failed_section(name):
    torch.manual_seed(1)
    wrapped, given, inputs = OTHERS[name]() if name in OTHERS else of_family(name)
    run = ls.record(wrapped, given, seed=3, **inputs)
    page = ls.report(run)
    assert "Not measured:" not in page.html
    left_out = {one["part"]: one["why"] for one in page.data["left_out"] if NOT_ITS not in one["why"]}
    assert "no task" in left_out.pop("Accuracy")
    if name in MODELS:
        assert all("needs a model with a head" in why for why in left_out.values()), left_out
        assert {"convergence", "stability"} <= set(page.data["results"])
    assert all(re.search("|".join(REASONS), why) for why in left_out.values()), left_out
