"""Edits and gradient checkpointing: gradients are those of the edited function, or are refused."""

import pytest
import torch

import loopscope as ls

from ..toys.foreign_loops import Checkpointed, CheckpointedReentrant, Loop, batch, build_loop

# PyTorch's own remark on reentrant checkpoints whose input needs no gradient.
pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
KINDS = pytest.mark.parametrize("kind", [Checkpointed, CheckpointedReentrant])
TEXT = "inside gradient checkpointing, which computes it again in the backward pass without edits"
EDITS = [
    ls.ablate("state", iteration=2),
    ls.add("core.linear", iteration=2, value=1.0),
    ls.add("core_in", iteration=2, value=1.0),
    ls.skip(2),
]


def wrapped(kind):
    return ls.wrap(build_loop(kind), body="core")


@KINDS
@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_an_edit_that_is_not_made_again_is_refused_where_gradients_are_kept(kind, edit):
    x = batch().requires_grad_()
    with pytest.raises(ls.LoopscopeError, match=TEXT):
        ls.record(wrapped(kind), x, edits=[edit], grad=True)
    edited, plain = (ls.record(wrapped(one), x, edits=[edit]) for one in (kind, Loop))
    assert torch.equal(edited.output, plain.output)


@KINDS
@pytest.mark.parametrize("edits", [[], [ls.add("head", value=1.0)]], ids=str)
def test_recordings_and_edits_outside_have_the_gradients_of_the_plain_loop(kind, edits):
    gradients = []
    for one in (kind, Loop):
        model = wrapped(one)
        x = batch().requires_grad_()
        ls.record(model, x, edits=edits, grad=True).output.square().sum().backward()
        gradients.append(model.module.core.linear.weight.grad)
    assert torch.equal(*gradients) and float(gradients[0].norm()) > 0
