"""Nanbeige: its norm between the loops, or not, and other wirings under the same name."""

import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

import loopscope as ls

from ..toys.nanbeige_double import NanbeigeForCausalLM


@pytest.fixture(params=[(2, False), (2, True), (4, False), (3, True), (1, False)], scope="module")
def case(request):
    torch.manual_seed(1)
    count, skips = request.param
    model = NanbeigeForCausalLM(num_loops=count, skip_loop_final_norm=skips).eval()
    tokens, ends = torch.randint(0, 40, (2, 5)), []
    part = model.model.layers[-1] if skips else model.model.norm
    handle = part.register_forward_hook(lambda _, given, output: ends.append(output[0] if skips else output))
    with torch.no_grad():
        own = model(tokens).logits
    handle.remove()
    return SimpleNamespace(
        model=model, wrapped=ls.wrap(model), tokens=tokens, own=own, ends=ends, count=count
    )


def test_a_pass_is_the_models_own_bit_for_bit(case):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ls.LoopscopeWarning)
        run = ls.record(case.wrapped, case.tokens)
        assert torch.equal(ls.record(case.wrapped, case.tokens, sites="all").output, case.own)
    assert torch.equal(run.output, case.own)
    assert run.iterations == len(case.ends) == case.count
    assert all(torch.equal(run.states[k + 1], end) for k, end in enumerate(case.ends))
    off = case.wrapped.difference(case.tokens)
    sys.stdout.write(f"the largest difference is {off:.1e}\n")
    assert off == 0


def test_an_edit_reaches_the_answer(case):
    value = torch.randn(2, 5, 16)
    run = ls.record(case.wrapped, case.tokens, edits=[ls.patch("state", iteration=case.count, value=value)])
    skips = case.model.config.skip_loop_final_norm
    assert torch.equal(run.output, case.model.lm_head(case.model.model.norm(value) if skips else value))


def test_its_generation_is_recorded(case):
    own = case.model.generate(case.tokens[:1], 3)
    with ls.recording(case.wrapped) as run:
        assert torch.equal(case.model.generate(case.tokens[:1], 3), own)
    assert run.states.shape[:2] == (3, case.count + 1)


@pytest.mark.parametrize("wiring", ["damped", "scaled"])
def test_another_wiring_is_caught(wiring):
    torch.manual_seed(1)
    model = NanbeigeForCausalLM(wiring).eval()
    tokens = torch.randint(0, 40, (2, 5))
    with pytest.warns(ls.LoopscopeWarning, match="own forward gives, but"):
        run = ls.record(ls.wrap(model), tokens)
    assert torch.equal(run.output, model(tokens).logits)
