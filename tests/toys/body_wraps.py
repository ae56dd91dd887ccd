"""Models of others, each wrapped by its adapter and by its loop body, and the options of a run."""

from typing import Any

import loopscope as ls

from . import family_doubles, small_models

BLOCKS = ["transformer.core_block.0", "transformer.core_block.1"]
"""The body of Huginn's double."""


def albert(iterations: int) -> tuple[Any, Any, dict[str, Any]]:
    model = small_models.albert(num_hidden_layers=iterations).eval()
    return ls.wrap(model), ls.wrap(model, body="albert.encoder.albert_layer_groups.0"), {}


def huginn(iterations: int) -> tuple[Any, Any, dict[str, Any]]:
    model = family_doubles.RavenForCausalLM().eval()
    options = {"iterations": iterations, "seed": 0}
    return ls.wrap(model), ls.wrap(model, body=BLOCKS, count="num_steps"), options
