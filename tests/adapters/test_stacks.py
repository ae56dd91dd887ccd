"""What is particular to MoEUT and looped_nanochat."""

import pytest
import torch
from torch import nn

import loopscope as ls

from ..toys.stack_doubles import GPT, MoEUTLM


def test_moeuts_routers_note_down_nothing_of_a_recording():
    torch.manual_seed(1)
    model = MoEUTLM().train()
    tokens = torch.randint(0, 40, (2, 5))
    torch.manual_seed(0)
    own = model(tokens)
    ls.record(ls.wrap(model), tokens, sites="all")
    assert [len(layer.ffn.sel_hist) for layer in model.transformer.layers] == [0, 0]
    torch.manual_seed(0)
    assert torch.equal(model(tokens).reg_loss, own.reg_loss)


@pytest.mark.parametrize("wiring", [(), ("passthrough",)])
def test_looped_nanochats_gradients_are_cut_where_the_model_cuts_them(wiring):
    torch.manual_seed(1)
    model = GPT(*wiring).train()
    tokens = torch.randint(0, 40, (2, 5))
    weight = model.transformer.recur[0].attn.c_v.weight
    run = ls.record(ls.wrap(model), tokens, grad=True)
    own = torch.autograd.grad(model(tokens)[0].sum(), weight)[0]
    assert torch.equal(torch.autograd.grad(run.output.sum(), weight)[0], own)


@pytest.mark.parametrize("build", [GPT, lambda: GPT("random_start"), MoEUTLM])
def test_passes_that_a_stack_makes_by_itself_are_recorded_as_they_ran(build):
    torch.manual_seed(1)
    model = build().eval()
    tokens = torch.randint(0, 40, (2, 5))
    with ls.recording(ls.wrap(model)) as out:
        model(tokens)
    (run,) = out.runs
    assert len(run.states) == len(model.seen)
    assert all(torch.equal(run.states[k], state) for k, state in enumerate(model.seen))


def test_a_gpt_whose_state_comes_first_is_refused_where_it_starts_from_noise():
    tokens = torch.randint(0, 40, (2, 5))
    wrapped = ls.wrap(GPT("random_start", "swapped_halves"))
    with pytest.raises(
        ls.LoopscopeError, match="inject must receive the prelude's output and then the state"
    ):
        ls.record(wrapped, tokens)


def test_a_class_of_a_common_name_is_told_by_its_parts():
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = nn.ModuleDict({"wte": nn.Embedding(40, 16), "h": nn.Linear(16, 16)})

        def forward(self, idx: torch.Tensor) -> torch.Tensor:
            h = self.transformer["wte"](idx)
            for _ in range(3):
                h = self.transformer["h"](h).tanh()
            return h

    Other.__name__ = "GPT"
    model, tokens = Other(), torch.randint(0, 40, (2, 5))
    with pytest.raises(ls.LoopscopeError, match="a GPT must have the parts of looped_nanochat's"):
        ls.wrap(model)
    assert not ls.find_loops(model, tokens).has_adapter
    assert ls.record(ls.wrap(model, body="transformer.h"), tokens).iterations == 3
    model = MoEUTLM()
    del model.transformer.n_repeats
    with pytest.raises(ls.LoopscopeError, match="a MoEUTLM must have transformer.layers"):
        ls.wrap(model)
