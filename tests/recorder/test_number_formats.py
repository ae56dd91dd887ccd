"""Models in half precision, with weights in 8 bits and with compiled parts are recorded as they
compute."""

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.runs.weight_digests import weights_digest
from tests.toys.looped_gpt2 import LoopedGPT2

TOKENS = torch.randint(1, 20, (2, 5), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def module():
    torch.manual_seed(0)
    return LoopedGPT2("injection").eval()


def plain_states(module: nn.Module, part: nn.Module) -> list[torch.Tensor]:
    """What a part returns in a pass, by a hook of torch's own."""
    seen: list[Any] = []
    handle = part.register_forward_hook(lambda _, args, output: seen.append(output))
    with torch.no_grad():
        module(TOKENS)
    handle.remove()
    return [one[0] if isinstance(one, tuple) else one for one in seen]


def in_8_bits(module: nn.Module) -> nn.Module:
    quantization = pytest.importorskip("torch.ao.quantization")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that another package will have it
        return quantization.quantize_dynamic(copy.deepcopy(module), {nn.Linear}, dtype=torch.qint8)


@pytest.mark.parametrize("form", ["bfloat16", "float16", "int8"])
def test_states_edits_lens_and_continuation(module, form):
    module = in_8_bits(module) if form == "int8" else module.to(getattr(torch, form))
    wrapped = ls.wrap(module, body="block")
    run = ls.record(wrapped, TOKENS)
    for k, expected in enumerate(plain_states(module, module.block)):
        assert torch.equal(run.states[k + 1], expected)
    edited = ls.record(wrapped, TOKENS, edits=ls.ablate("state", iteration=2, position=-1))
    assert torch.equal(edited.states[1], run.states[1]) and not torch.equal(edited.states[3], run.states[3])
    assert torch.equal(run.logits[-1], module(TOKENS)["logits"])
    assert torch.equal(ls.resume(wrapped, run, 4, start=2).states[4], run.states[4])
    assert ls.lens(run).entropy().isfinite().all()
    assert ls.analyses.measure("convergence", run).verdict is not None


def test_the_digest_of_weights_in_8_bits_tells_models_apart(module):
    one = weights_digest(in_8_bits(module))
    assert one == weights_digest(in_8_bits(module))
    with torch.no_grad():
        module.inject.weight.mul_(-1)
    assert weights_digest(in_8_bits(module)) not in (one, None)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["a module around it", "in place"])
def test_a_compiled_body_and_its_sites(module, how):
    plain = ls.record(ls.wrap(copy.deepcopy(module), body="block"), TOKENS, sites=["block.mlp.c_fc"])
    site = "block.mlp.c_fc"
    if how == "in place":
        module.block.compile(backend="eager")
    else:
        module.block, site = torch.compile(module.block, backend="eager"), "block._orig_mod.mlp.c_fc"
    with torch.no_grad():
        module(TOKENS)  # compiled before any hook is there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dynamo doesn't trace the hooks
        run = ls.record(ls.wrap(module, body="block"), TOKENS, sites=[site])
    assert torch.equal(run.states[1:].tensor, plain.states[1:].tensor)
    assert torch.equal(run[site].tensor, plain["block.mlp.c_fc"].tensor)
