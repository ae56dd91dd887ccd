"""What is particular to Parcae: its gradients, its draws of the number of iterations, and modules
of the same name without its parts."""

import pytest
import torch
from torch import nn

import loopscope as ls

from ..toys.parcae_double import Parcae

TOKENS = torch.randint(0, 40, (2, 5), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("inputs", [{}, {"num_steps_pair": (3, 1)}])
def test_its_gradients_are_cut_where_the_model_cuts_them(inputs):
    torch.manual_seed(1)
    model = Parcae().train()
    weight = model.transformer.core_block[0].attn.c_v.weight
    run = ls.record(ls.wrap(model), TOKENS, seed=3, grad=True, **inputs)
    torch.manual_seed(3)
    own = model(TOKENS, return_logits=True, **inputs)["logits"]
    assert torch.equal(run.output, own)
    assert torch.equal(*(torch.autograd.grad(x.sum(), weight)[0] for x in (run.output, own)))


@pytest.mark.parametrize("method", ["per-sequence", "per-token"])
def test_a_number_of_iterations_for_each_row_is_refused_and_one_for_all_followed(method):
    torch.manual_seed(1)
    wrapped = ls.wrap(Parcae(method=method).eval())
    with pytest.raises(ls.LoopscopeError, match=rf"{method}.*num_steps_pair=\(4, 0\)"):
        ls.record(wrapped, TOKENS)
    assert ls.record(wrapped, TOKENS, num_steps_pair=(4, 0)).iterations == 4
    with pytest.raises(ls.LoopscopeError, match="num_steps_pair must be a number of iterations, or two"):
        ls.record(wrapped, TOKENS, num_steps_pair=("four", 0))


def test_passes_that_it_makes_by_itself_are_recorded_and_a_generate_without_its_forward_says_so():
    torch.manual_seed(1)
    model = Parcae().eval()
    with ls.recording(ls.wrap(model)) as passes:
        model(TOKENS)
    (run,) = passes.runs
    assert all(torch.equal(run.states[k], state) for k, state in enumerate(model.seen))
    with ls.recording(ls.wrap(model)) as passes:
        model.blocks(
            model.transformer.wte(TOKENS), model.transformer.coda, 4, (torch.zeros(1, 5, 4), None), TOKENS
        )
    with pytest.raises(ls.LoopscopeError, match="the model's forward wasn't called"):
        passes["state"]


@pytest.mark.parametrize("part", ["C", "adapter", "prelude", "prelude.0"])
def test_a_model_of_its_name_without_its_parts_is_refused_by_their_names(part):
    model = Parcae()
    if part == "prelude.0":
        model.transformer["prelude"] = nn.ModuleList()
    else:
        del model.transformer[part]
    with pytest.raises(ls.LoopscopeError, match=rf"a Parcae must have the parts.*but lacks {part}\."):
        ls.wrap(model)
