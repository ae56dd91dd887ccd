"""The runs of which it can be measured which state carries the answer."""

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError

from ..toys.known_circuit import written


def test_it_applies_where_there_is_something_to_write_and_someone_to_take_it_from():
    applies = discovery.module("analyses", "causes").applies
    assert applies(written(12))
    assert not applies(written(12, edits=[ls.skip(1)]))
    assert not applies(ls.record(written(2).model, torch.ones(5, 6, dtype=torch.long)))
    assert not applies(ls.iterate(torch.tanh, torch.randn(3, 4), 5))
    assert not applies(ls.record(ls.wrap(nn.Sequential(nn.Linear(4, 4)), body="0"), torch.randn(3, 2, 4)))
    with pytest.raises(LoopscopeError, match="all examples of this run answer alike"):
        ls.analyses.measure("causes", ls.record(written(2).model, torch.ones(5, 6, dtype=torch.long)))


def test_a_model_with_one_answer_for_a_whole_example_is_pointed_to_a_metric_of_its_own():
    from ..toys.small_models import albert

    torch.manual_seed(0)
    model = ls.wrap(albert("AlbertForSequenceClassification").eval())
    given = torch.randint(0, 40, (2, 3, 5))
    run, donor = (ls.record(model, one) for one in given)
    with pytest.raises(LoopscopeError, match=r"compares answers with logits \(batch, position, vocab\)"):
        ls.analyses.measure("causes", run)
    grid = ls.effects(run, donor, metric=lambda logits: logits[:, 0])
    assert torch.allclose(
        ls.effects(run, donor, positions="all", metric=lambda logits: logits[:, 0]).carried[0, -1],
        torch.ones(1),
    )
    assert grid.values.shape == (1, 7, 5, 1, 3)


def test_a_section_that_would_take_minutes_is_left_out_unless_it_is_asked_for(monkeypatch):
    module, run = discovery.module("analyses", "causes"), written(12)
    monkeypatch.setattr("loopscope.patching.patched_forward.WORK", 1e5)
    assert not module.applies(run) and not discovery.module("analyses", "locality").applies(run)
    assert ls.analyses.measure("causes", run).examples == module.MIN_EXAMPLES
    assert ls.analyses.measure("causes", run, examples=None).examples == 12
