"""What a module packs its logits into changes no analysis of its answers."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import loopscope as ls
from loopscope.recorder.subset import select_examples
from loopscope.runs.output_logits import position_logits


@dataclass
class Output:
    loss: None
    logits: Tensor


PACKINGS = {
    "tuple": lambda logits: (logits, 3),
    "dict": lambda logits: {"logits": logits},
    "dataclass": lambda logits: Output(None, logits),
}


class Packed(nn.Module):
    def __init__(self, pack: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pack = pack
        self.embed, self.core, self.head = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 9)
        nn.init.normal_(self.embed.weight, std=4)

    def forward(self, tokens: Tensor) -> Any:
        h = self.embed(tokens)
        for _ in range(3):
            h = self.core(h + h.cumsum(1) / 5)
        return self.pack(self.head(h))


def recorded(pack: Any) -> ls.Run:
    tokens = torch.randint(0, 9, (12, 5), generator=torch.Generator().manual_seed(1))
    return ls.record(ls.wrap(Packed(pack).eval(), body="core"), tokens)


@pytest.fixture(scope="module")
def plain() -> ls.Run:
    return recorded(lambda logits: logits)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("analysis", ["causes", "locality", "lens"])
def test_every_packing_gives_the_same_result(packing, analysis, plain):
    packed = recorded(PACKINGS[packing])
    expected = ls.analyses.measure(analysis, plain).to_dict()
    assert ls.analyses.measure(analysis, packed).to_dict() == expected
    assert ls.analyses.module(analysis).applies(packed)


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_selection_of_examples_holds_their_logits(packing, plain):
    packed = recorded(PACKINGS[packing])
    logits = position_logits(packed)
    assert logits is not None and logits.equal(plain.output)
    chosen = position_logits(select_examples(packed, [7, 2]))
    assert chosen is not None and chosen.equal(plain.output[[7, 2]])


def test_an_output_without_logits_has_none():
    assert position_logits(recorded(lambda logits: {"answer": 3})) is None
