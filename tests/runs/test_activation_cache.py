"""One iteration as TransformerLens' ActivationCache."""

import pytest
import torch

import loopscope as ls

from ..toys.small_models import bridge


@pytest.fixture(scope="module")
def run():
    model = ls.models.build("universal", norm="pre", vocabulary=3, layers=(1, 2, 0))
    return ls.record(model, torch.randint(0, 2, (3, 6)), 4, sites="all")


def test_sites_are_found_by_transformer_lens_short_names(run):
    cache = run.cache(2)
    assert torch.equal(cache["pattern", 1], run["core.1.attn.hook_pattern"][2])
    assert torch.equal(cache["resid_post", 0], run["core.0.hook_resid_post"][2])
    assert torch.equal(cache["core.0.hook_mlp_out"], run["core.0.hook_mlp_out"][2])
    assert torch.equal(run.cache(-1)["pattern", 0], run["core.0.attn.hook_pattern"][3])


def test_the_parts_of_the_stream_add_up_to_it(run):
    """Of a stack with its norms before each branch."""
    parts, labels = run.cache(1).decompose_resid(layer=None, return_labels=True)
    assert labels[0] == "embed"
    assert torch.allclose(parts.sum(0), run["core.1.hook_resid_post"][1], atol=1e-5)
    stack, labels = run.cache(1).accumulated_resid(layer=None, return_labels=True)
    assert labels == ["0_pre", "1_pre", "final_post"]
    assert torch.equal(stack[0], run["core_in"][1])


def test_slices_and_stacks_work_on_it(run):
    cache = run.cache(0)
    assert cache.stack_activation("pattern").shape == (2, 3, 4, 6, 6)
    assert cache.apply_slice_to_batch_dim(0)["resid_post", 1].shape == (6, 64)


def test_a_bridges_cache_has_its_own_names():
    wrapped = ls.wrap(bridge())
    run = ls.record(wrapped, torch.randint(0, 40, (2, 5)), sites=lambda name: name.startswith("L_blocks.0"))
    last, first = run.cache(1), run.cache(1, low=0)
    name = "L_blocks.0.attn.hook_pattern"
    assert torch.equal(last[name], run[name][1][-1])
    assert torch.equal(first[name], run[name][1][0])


def test_an_inner_loop_that_isnt_there_is_said(run):
    with pytest.raises(ls.LoopscopeError, match="no inner loop 'lwo'"):
        run.cache(0, lwo=1)


def test_what_cannot_be_done_is_said(run):
    with pytest.raises(ls.LoopscopeError, match=r"one of 0\.\.3.* but is 4"):
        run.cache(4)
    bare = ls.record(run.model, run.tokens, 4)
    with pytest.raises(ls.LoopscopeError, match="a cache needs sites inside iteration 1"):
        bare.cache(1)
