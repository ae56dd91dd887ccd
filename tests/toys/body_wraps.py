"""Models of others, each wrapped by its adapter and by its loop body, and the options of a run."""

from typing import Any

import loopscope as ls

from . import family_doubles, small_models

BLOCKS = ["transformer.core_block.0", "transformer.core_block.1"]
"""The body of Huginn's double."""
CYCLE = ["model.L_module", "model.H_module"]
"""The body of HRM-Text."""


def albert(iterations: int) -> tuple[Any, Any, dict[str, Any]]:
    model = small_models.albert(num_hidden_layers=iterations).eval()
    return ls.wrap(model), ls.wrap(model, body="albert.encoder.albert_layer_groups.0"), {}


def huginn(iterations: int) -> tuple[Any, Any, dict[str, Any]]:
    model = family_doubles.RavenForCausalLM().eval()
    options = {"iterations": iterations, "seed": 0}
    return ls.wrap(model), ls.wrap(model, body=BLOCKS, count="num_steps"), options


def hrm_text(iterations: int) -> tuple[Any, Any, dict[str, Any]]:
    model = small_models.hrm_text(H_cycles=iterations, L_cycles=2, hidden_size=8, head_dim=4).eval()
    return (
        ls.wrap(model),
        ls.wrap(model, body=CYCLE, state=dict(zip(("high", "low"), CYCLE[::-1], strict=True))),
        {},
    )
