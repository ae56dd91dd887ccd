"""An edit of the state is followed by what the module computes from it, whatever that equals."""

import pytest
import torch
from torch import Tensor, nn

import loopscope as ls


class Residual(nn.Module):
    """Without a state, what the body receives is again what it received first."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.core, self.head = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 9)

    def forward(self, tokens: Tensor) -> Tensor:
        x = embedded = self.embed(tokens)
        for _ in range(4):
            x = self.core(x).tanh() + embedded
        return self.head(x)


@pytest.mark.parametrize("iteration", [1, 2, 4, None])
def test_a_state_of_zeros_is_taken_as_plain_hooks_give_it(iteration):
    torch.manual_seed(0)
    module, tokens = Residual().eval(), torch.arange(6)[None]
    calls: list[int] = []

    def zeros(part: nn.Module, args: object, output: Tensor) -> Tensor:
        calls.append(1)
        return torch.zeros_like(output) if iteration in (None, len(calls)) else output

    handle = module.core.register_forward_hook(zeros)
    expected = module(tokens)
    handle.remove()
    times = slice(1, None) if iteration is None else iteration
    run = ls.record(ls.wrap(module, body="core"), tokens, edits=[ls.ablate("state", iteration=times)])
    assert run.output.equal(expected)
